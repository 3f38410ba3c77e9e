"""Heatmaps teacher x method, one for each data set, recipe and student."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vitkd_bench.report.board import Board
from vitkd_bench.report.contamination import MARK, marked
from vitkd_bench.report.rows import Row
from vitkd_bench.report.words import points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OUTCOMES = {"transfers": 0, "fails": 1}  # in this order; teachers without a published one come last
_HATCHES = {"refused": "////", "failed": "xxxx", "missing": "...."}
_COLOURS = "RdBu"  # ColorBrewer's, safe for colour-blind readers; blue is a gain
_STYLE: dict[str, Any] = {
    "svg.hashsalt": "vitkd_bench",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
}


@dataclass(frozen=True, slots=True)
class Square:
    """One cell: its delta in percentage points, whether that is sure, or why there is none."""

    delta: float | None
    sure: bool = False
    state: str = "done"


@dataclass(frozen=True, slots=True)
class Heatmap:
    """The content of one figure. `teachers` are (name, published outcome), grouped by outcome.

    The last of the `methods` are `controls`, set apart by a line; `seen` are teachers that have seen these
    pictures.
    """

    dataset: str
    recipe: str
    student: str
    teachers: tuple[tuple[str, str | None], ...]
    methods: tuple[str, ...]
    squares: dict[tuple[str, str], Square]
    limit: float
    native_is_standard: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What it shows."""
        return f"{self.student} students on {self.dataset} (recipe {self.recipe})"

    @property
    def name(self) -> str:
        """A file name without ending."""
        return "heatmap-" + "-".join(_in_a_file_name(p) for p in (self.dataset, self.recipe, self.student))

    @property
    def alt(self) -> str:
        """What a reader who does not see it should know."""
        values = [s.delta for s in self.squares.values() if s.delta is not None]
        sure = sum(s.sure for s in self.squares.values())
        spread = f", from {points(min(values))} to {points(max(values))}" if values else ""
        controls = f" and {len(self.controls)} controls" if self.controls else ""
        methods = len(self.methods) - len(self.controls)
        known = f" Teachers that have seen these pictures: {', '.join(self.seen)}." if self.seen else ""
        size = f"{len(self.teachers)} teachers by {methods} methods{controls}"
        return (
            f"Heatmap of {size} for {self.title}: delta to the baseline in percentage points{spread}; "
            f"{sure} of {len(self.squares)} intervals exclude 0.{known} All values stand in the leaderboard."
        )


def heatmaps(board: Board) -> list[Heatmap]:
    """Lay out all heatmaps of a board, with one scale for all of them."""
    deltas = [abs(row.delta.interval.mean) for row in board.rows if row.delta]
    limit = math.ceil(10 * max([1.0, *deltas])) / 10
    students = dict.fromkeys((r.key.dataset, r.key.recipe, r.key.student) for r in board.rows)
    found = [_layout(board, *names, limit) for names in sorted(students)]
    return [heatmap for heatmap in found if heatmap.methods]


def _layout(board: Board, dataset: str, recipe: str, student: str, limit: float) -> Heatmap:
    names = (dataset, recipe, student)
    rows = [r for r in board.rows if (r.key.dataset, r.key.recipe, r.key.student) == names]
    squares = {(r.key.teacher, r.key.method): _square(r) for r in rows if not r.is_baseline}
    for refusal in board.refusals:
        if (refusal.dataset, refusal.student) == (dataset, student):
            squares.setdefault((refusal.teacher, refusal.method), Square(None, state="refused"))
    baselines = {row.key.method for row in board.rows if row.is_baseline}
    controls = set(board.control_names)
    outcomes = {row.key.teacher: row.teacher.outcome for row in board.rows}
    teachers = sorted(
        {teacher for teacher, _ in squares},
        key=lambda name: (_OUTCOMES.get(outcomes.get(name) or "", 2), name),
    )
    return Heatmap(
        *names,
        teachers=tuple((name, outcomes.get(name)) for name in teachers),
        methods=tuple(sorted({m for _, m in squares} - baselines, key=lambda name: (name in controls, name))),
        squares={key: square for key, square in squares.items() if key[1] not in baselines},
        limit=limit,
        native_is_standard=tuple(sorted({row.key.teacher for row in rows if row.same_as})),
        controls=tuple(sorted({method for _, method in squares} & controls)),
        seen=tuple(sorted({row.key.teacher for row in rows if row.seen})),
    )


def _square(row: Row) -> Square:
    if row.delta is None:
        return Square(None, state="failed" if row.failed else "missing")
    return Square(row.delta.interval.mean, sure=row.verdict != "undecided")


def _in_a_file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "_", text) or "unnamed"


def draw(heatmap: Heatmap) -> dict[str, bytes]:
    """Draw one heatmap as `png` (200 dpi) and `svg`; equal content gives equal bytes on one machine."""
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", _STYLE]):  # whatever the user's own matplotlibrc says
        rows, columns = len(heatmap.teachers), len(heatmap.methods)
        names = 0.07 * max(len(name) for name, _ in heatmap.teachers)
        width = names + max(2.6 + 0.85 * columns, 0.6 + 0.075 * len(heatmap.title))  # inches; its title fits
        figure = Figure(figsize=(width, 1.9 + 0.36 * rows), layout="constrained")
        axes = figure.add_subplot()
        _paint(axes, heatmap)
        _mark(axes, heatmap)
        _name(axes, heatmap)
        return _save(figure)


def _paint(axes: Axes, heatmap: Heatmap) -> None:
    import numpy as np
    import seaborn as sns

    grid = [[heatmap.squares.get((t, m), Square(None)) for m in heatmap.methods] for t, _ in heatmap.teachers]
    values = np.array([[np.nan if s.delta is None else s.delta for s in row] for row in grid])
    texts = np.array([["" if s.delta is None else points(s.delta) for s in row] for row in grid])
    sns.heatmap(
        values,
        ax=axes,
        annot=texts,
        fmt="",
        cmap=_COLOURS,
        vmin=-heatmap.limit,
        vmax=heatmap.limit,
        mask=np.isnan(values),
        linewidths=1.0,
        linecolor="white",
        cbar_kws={"label": "delta to baseline (pp)", "shrink": 0.9},
    )
    # seaborn annotates unmasked cells only, row by row
    shown = [s for row in grid for s in row if s.delta is not None]
    for text, square in zip(axes.texts, shown, strict=True):
        text.set_fontweight("bold" if square.sure else "normal")
        text.set_color(_readable((square.delta or 0.0) / heatmap.limit))


def _readable(share: float) -> str:
    """Black or white, whichever contrasts more with the colour of a delta, -1 to 1 of the limit (WCAG 2)."""
    from matplotlib import colormaps

    levels = colormaps[_COLOURS]((share + 1) / 2)[:3]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in levels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "white"


def _mark(axes: Axes, heatmap: Heatmap) -> None:
    """Ring what is sure, hatch what has no value, and explain both below."""
    from matplotlib.patches import Rectangle

    for y, (teacher, _) in enumerate(heatmap.teachers):
        for x, method in enumerate(heatmap.methods):
            square = heatmap.squares.get((teacher, method), Square(None, state="missing"))
            if square.delta is None:
                axes.add_patch(_hatched((x, y), square.state))
            elif square.sure:
                axes.add_patch(Rectangle((x + 0.05, y + 0.08), 0.9, 0.84, fill=False, ec="black", lw=1.4))
    shown = [_hatched((0, 0), state) for state in _HATCHES if _has(heatmap, state)]
    labels = [state for state in _HATCHES if _has(heatmap, state)]
    if any(square.sure for square in heatmap.squares.values()):
        shown.append(Rectangle((0, 0), 1, 1, fill=False, ec="black", lw=1.4))
        labels.append("95 % interval excludes 0")
    if heatmap.seen:
        shown.append(Rectangle((0, 0), 1, 1, fill=False, ec="none"))
        labels.append(f"{MARK} teacher was trained on these pictures")
    if shown and isinstance(axes.figure, _figure_type()):
        axes.figure.legend(shown, labels, loc="outside lower left", ncols=2, frameon=False, fontsize=8)


def _has(heatmap: Heatmap, state: str) -> bool:
    keys = ((teacher, method) for teacher, _ in heatmap.teachers for method in heatmap.methods)
    return any(heatmap.squares.get(key, Square(None, state="missing")).state == state for key in keys)


def _figure_type() -> type[Figure]:
    from matplotlib.figure import Figure

    return Figure


def _hatched(corner: tuple[float, float], state: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, 1, 1, fill=True, fc="#eeeeee", ec="#8a8a8a", hatch=_HATCHES[state], lw=0.0)


def _name(axes: Axes, heatmap: Heatmap) -> None:
    """Write names of teachers and methods, and set groups of published outcome apart."""
    names = [(name, marked(name, [name] if name in heatmap.seen else [])) for name, _ in heatmap.teachers]
    labels = [f"{told} (= standard)" if n in heatmap.native_is_standard else told for n, told in names]
    axes.set_yticks([y + 0.5 for y in range(len(labels))], labels, rotation=0)
    axes.set_xticks([x + 0.5 for x in range(len(heatmap.methods))], heatmap.methods, rotation=25, ha="right")
    axes.set_title(heatmap.title, loc="left", fontsize=10)
    axes.tick_params(length=0)
    if heatmap.controls:
        axes.axvline(len(heatmap.methods) - len(heatmap.controls), color="black", lw=1.2)
        for label in axes.get_xticklabels()[-len(heatmap.controls) :]:
            label.set_fontstyle("italic")
    outcomes = [outcome for _, outcome in heatmap.teachers]
    for y in _starts(outcomes):
        if y:
            axes.axhline(y, color="black", lw=1.2)
        if outcomes[y]:
            group = outcomes.count(outcomes[y])
            axes.annotate(
                f"published,\nstandard\nstudents:\n{outcomes[y]}",
                (1.02, 1 - (y + group / 2) / len(outcomes)),
                xycoords="axes fraction",
                va="center",
                fontsize=7,
                color="#444444",
            )


def _starts(outcomes: Sequence[str | None]) -> Iterable[int]:
    return [y for y, outcome in enumerate(outcomes) if y == 0 or outcome != outcomes[y - 1]]


def _save(figure: Figure) -> dict[str, bytes]:
    files = {}
    for kind, extra in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=200, metadata=extra)
        files[kind] = buffer.getvalue()
    return files
