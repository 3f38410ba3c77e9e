"""Writes docs/teachers.md: every teacher on the shelf and what its contract claims, from the registry alone.

python scripts/teachers_page.py            writes the page
python scripts/teachers_page.py --check    says whether it is stale, and exits 1 if so
"""

from __future__ import annotations

import sys
from pathlib import Path

from made_page import write_or_check

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import HALF_PIXELS, IMAGENET_PIXELS, OPENAI_PIXELS, Accuracy, PixelStats, Teacher

PAGE = Path(__file__).resolve().parents[1] / "docs" / "teachers.md"
REFRESH = "python scripts/teachers_page.py"

INTRODUCTION = f"""# Teachers

This page is made from the registry by `{REFRESH}`; change `vitkd_bench/teachers/`, not this page.

*Certainty* says how sure it is that the paper's list of twenty holds a teacher: A named in its texts, B
near-certain, C likely, D a guess. *Outcome* is what is published of attention transfer from the family to a
standard student. *Components* are those that a standard student lacks. *Weights* are the backends that
build the network and have its weights, the one used by default first. *Seen* are the data sets of which a
teacher has seen pictures: a board on one of these says so. *Published* figures are of ImageNet-1k at 224
pixels unless another data set or size is named, in percent.

The second table of each group says what a teacher was trained for, on what, and how it is shown an image.
*Normalised* names the mean and standard deviation of the pixels, in [0, 1]; `digits` are of the digits' train
split. *Crop* is the part of the resized image that is kept at evaluation. *Positions* says how the position
embedding is brought to another grid: `timm` bicubic with antialiasing, `official` as the release's own code
does; a dash where there is none to bring.

{{statistics}}
"""

GROUPS = {
    "published": "The twenty",
    "reserve": "Reserve",
    "micro": "Micro teachers, made here from digits",
}
STATISTICS = {
    "imagenet": IMAGENET_PIXELS,
    "half": HALF_PIXELS,
    "openai": OPENAI_PIXELS,
    "digits": TEACHERS.get("micro/deit").pixels,
}
COLUMNS = (
    "name",
    "title",
    "family",
    "certainty",
    "outcome",
    "pixels",
    "patch",
    "tokens",
    "blocks",
    "width",
    "heads",
    "parameters",
    "components",
    "head",
    "weights",
    "licence",
    "seen",
    "published",
)
SHOWN_COLUMNS = ("name", "objective", "data", "normalised", "interpolation", "crop", "positions")
DEFAULT_SIZE = 224  # of a figure that names none
KINDS = {
    "top1": "top-1",
    "zero_shot": "zero-shot",
    "knn": "k-NN",
    "linear": "linear probe",
    "finetuned": "fine-tuned",
}


def page() -> str:
    """Write the whole page."""
    statistics = [f"- `{name}`: {_means(stats)}" for name, stats in STATISTICS.items()]
    introduction = INTRODUCTION.format(statistics="\n".join(statistics))
    return "\n".join([introduction, *(_section(group) for group in GROUPS)])


def _means(stats: PixelStats) -> str:
    mean, deviation = (", ".join(f"{value:.4g}" for value in values) for values in (stats.mean, stats.std))
    return f"mean {mean}; deviation {deviation}"


def _section(group: str) -> str:
    teachers = sorted((t for t in TEACHERS if t.group == group), key=lambda t: (t.family, _size(t)))
    facts = _table(COLUMNS, [_row(teacher) for teacher in teachers])
    shown = _table(SHOWN_COLUMNS, [_shown(teacher) for teacher in teachers])
    return f"## {GROUPS[group]}\n\n{facts}\n\n{shown}\n\n{_sources(teachers)}"


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [columns, tuple("---" for _ in columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _size(teacher: Teacher) -> tuple[int, int]:
    return teacher.architecture.size.width, teacher.architecture.size.depth


def _row(teacher: Teacher) -> tuple[str, ...]:
    architecture = teacher.architecture
    native = f" (trained at {teacher.native_size})" if teacher.native_size else ""
    return (
        f"`{teacher.name}`",
        teacher.title,
        teacher.family,
        teacher.certainty or "",
        teacher.outcome or "",
        f"{architecture.image_size}{native}",
        str(architecture.patch),
        str(architecture.tokens),
        str(architecture.size.depth),
        str(architecture.size.width),
        str(architecture.size.heads),
        f"{teacher.parameters / 1e6:.1f} M" if teacher.parameters else "",
        ", ".join(teacher.native_components) or "none",
        teacher.head_kind,
        ", ".join(source.backend for source in teacher.sources) or "made here",
        teacher.licence,
        ", ".join(teacher.seen),
        "; ".join(_figure(figure) for figure in teacher.accuracy),
    )


def _shown(teacher: Teacher) -> tuple[str, ...]:
    """What it was trained for, and how it is shown an image."""
    known = next((name for name, stats in STATISTICS.items() if stats == teacher.pixels), None)
    learned = teacher.architecture.components.position == "learned"
    return (
        f"`{teacher.name}`",
        teacher.objective,
        teacher.data,
        known or _means(teacher.pixels),
        teacher.interpolation,
        f"{teacher.crop:.3g}",
        teacher.position_interpolation if learned else "-",
    )


def _figure(figure: Accuracy) -> str:
    where = "" if figure.dataset == "imagenet1k" else f" on {figure.dataset}"
    size = "" if figure.image_size == DEFAULT_SIZE else f" at {figure.image_size} px"
    return f"{KINDS[figure.kind]} {100 * figure.value:g}{where}{size}"


def _sources(teachers: list[Teacher]) -> str:
    """List where the figures are from and in what a build departs from the release, one line a teacher."""
    lines = []
    for teacher in teachers:
        said = list(dict.fromkeys(figure.source for figure in teacher.accuracy))
        differs = dict.fromkeys(f"{s.backend}: {text}" for s in teacher.sources for text in s.differs)
        parts = [f"figures: {', '.join(said)}" if said else "", *differs, teacher.notes]
        told = ". ".join(part.rstrip(".") for part in parts if part)
        if told:
            lines.append(f"- `{teacher.name}`: {told}.")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Write or check the page; the exit status."""
    return write_or_check(PAGE, page(), REFRESH, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
