"""A suite file that puts a diagnosis to the test, ready for `vitkd plan`."""

from __future__ import annotations

import re
from pathlib import Path

from vitkd_bench.diagnose.library import OnRecord
from vitkd_bench.diagnose.model import ModelFacts
from vitkd_bench.diagnose.recommendation import Advice
from vitkd_bench.diagnose.verdict import TO_BE_FILLED_IN
from vitkd_bench.records import write_atomically
from vitkd_bench.spec import SIZES, BadInputError

SIDE = 112  # pixels, about; the recipe's own, brought to a multiple of the patch

_SUITE = """\
# vitkd plan {file}{data}
#
# Written by vitkd diagnose {model}
# Advice: {student} student, {method}: {reason}.
suite: {name}
version: 1
{extensions}datasets:
{dataset}recipe: {recipe}
teachers:
{teacher}students: [{students}]
methods:
{methods}seeds: [0, 1, 2]
"""
_NOTES = {"attn_distill": " # in short recipes less: {name: attn_distill, weight: {sweep: [0.003, 0.03]}}"}
_WEIGHTS = " # with a file of your own: {{name: {name}, weights: FILE}}"
_EMPTY = "pixels=PixelStats(mean=(), std=()),  # to be filled in: one number a channel, of pixels in [0, 1]"
_DIGITS = "  - digits\n"
_IMAGES = """\
  - name: folder # data of your own: class/file, as a folder or a tar
    as: tiny_imagenet10
    train: tiny_imagenet100/train.tar.xz
    test: tiny_imagenet100/val.tar.xz
    classes: tiny_imagenet100/classes.json
    pictures_of: [tiny_imagenet] # whose they are, if known: a board says which teachers saw them
    subset: {classes: 10}
    val: {per_class: 20}
"""
_EXTENSION = '''\
"""{title}: a teacher's contract, written by vitkd diagnose from what was built."""

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import Architecture, PixelStats, Teacher, WeightSource

TEACHERS.register(
    Teacher(
        name={name!r},
        title={title!r},
        family={family!r},
        group="reserve",
        paper={gap!r},
        licence={licence!r},
        objective={gap!r},
        seen=(),  # data sets of its training, by name: a board marks what a teacher has seen
        architecture=Architecture.parse({architecture}),
{images}        sources=({source},),
        notes={notes!r},
    )
)
'''


def write_suite(facts: ModelFacts, advice: Advice, path: Path) -> tuple[Path, ...]:
    """Write a suite, and beside it the contract of a model that is not in the registry.

    Returns:
        What was written: the suite, and `<stem>_teacher.py` where the model needs one.

    Raises:
        BadInputError: a file is there already, or the model has a part that no contract can claim.
        WorldError: the disk refuses.
    """
    written = [path]
    contract = path.with_name(f"{path.stem}_teacher.py")
    if facts.teacher is None:
        written.append(contract)
    there = [str(file) for file in written if file.exists()]
    if there:
        raise BadInputError(f"{there[0]}: is there already; name another file with --suite-out")
    name = facts.teacher.name if facts.teacher else registered_name(facts)
    if facts.teacher is None:
        write_atomically(contract, _contract(facts, name).encode())
    extension = None if facts.teacher else contract.name
    write_atomically(path, _suite(facts, advice, path, name, extension).encode())
    return tuple(written)


def registered_name(facts: ModelFacts) -> str:
    """Make `family/<name>` of a model's name, `own/<name>` where its family is not known."""
    own = facts.name.partition(":")[2] or facts.name
    path = Path(own)
    if facts.backend == "transformers" and (path.suffix == ".json" or path.is_dir()):
        own = (path.parent if path.suffix == ".json" else path).resolve().name
    slug = re.sub(r"[^a-z0-9]+", "_", own.lower()).strip("_")
    if slug in SIZES and facts.architecture:  # a folder called `s` says nothing of what is in it
        size = facts.architecture.size
        known = (name for name, named in SIZES.items() if named == size)
        slug = next(known, f"w{size.width}_d{size.depth}_h{size.heads}")
    return f"{facts.family or 'own'}/{slug}"


def _suite(facts: ModelFacts, advice: Advice, path: Path, name: str, extension: str | None) -> str:
    micro = facts.teacher is not None and facts.teacher.training is not None
    slug = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")
    patch = facts.architecture.patch if facts.architecture else 16
    side = patch * max(1, round(SIDE / patch))
    return _SUITE.format(
        file=path.name,
        data="" if micro else " --data-root DATA # DATA is the folder that the paths below start from",
        model=facts.name,
        student=advice.student,
        method=advice.method,
        reason=advice.reason,
        name=f"diagnose_{slug}",
        extensions=f"extensions: [{extension}]\n" if extension else "",
        dataset=_DIGITS if micro else _IMAGES,
        recipe="micro_short" if micro else f"{{base: small_image, image_size: {side}}}",
        teacher=_teacher(facts, name),
        students=", ".join(advice.students),
        methods="".join(f"  - {method}{_NOTES.get(method, '')}\n" for method in advice.methods),
    )


def _teacher(facts: ModelFacts, name: str) -> str:
    """Name the teacher as a suite does, with its backend where that is not the contract's first."""
    teacher = facts.teacher
    if teacher is None:
        return f"  - {name}{_WEIGHTS.format(name=name)}\n"
    if teacher.training:
        return f"  - {name}\n"
    if facts.backend == teacher.source().backend:
        return f"  - {name}{_WEIGHTS.format(name=name)}\n"
    return f"  - {{name: {name}, backend: {facts.backend}}}\n"


def _contract(facts: ModelFacts, name: str) -> str:
    if facts.architecture is None or facts.not_run:
        raise BadInputError(
            f"model {facts.name!r}: no contract can be written: {facts.unnamed or facts.not_run}"
        )
    record, missing = facts.record, facts.record.missing()
    squeezed = "Images are squeezed to the square at evaluation." if record.squeezed else ""
    gaps = f"{TO_BE_FILLED_IN}: {', '.join(missing)}" if missing else ""
    return _EXTENSION.format(
        title=facts.name,
        name=name,
        family=facts.family or "own",
        gap=TO_BE_FILLED_IN,
        licence=record.licence or TO_BE_FILLED_IN,
        architecture=repr(facts.architecture.declared()),
        images=_images(record),
        source=_source(facts),
        notes="; ".join(filter(None, (gaps, squeezed))),
    )


def _images(record: OnRecord) -> str:
    """Write what the library has on record of images; gaps are left empty, and named in the notes."""
    lines = [
        f"pixels=PixelStats(mean={record.pixels.mean!r}, std={record.pixels.std!r}),"
        if record.pixels
        else _EMPTY
    ]
    if record.interpolation:
        lines.append(f"interpolation={record.interpolation!r},")
    if record.crop:
        lines.append(f"crop={record.crop!r},")
    return "".join(f"        {line}\n" for line in lines)


def _source(facts: ModelFacts) -> str:
    told = {"location": facts.record.location, "unused": facts.record.unused}
    more = "".join(f", {field}={value!r}" for field, value in told.items() if value)
    return f"WeightSource(backend={facts.backend!r}, model={facts.built!r}{more})"
