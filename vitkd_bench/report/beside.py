"""The tables beside the leaderboard: shifted images, and classes by their number of training images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vitkd_bench.report.board import Board
from vitkd_bench.report.class_groups import GROUPS
from vitkd_bench.report.contamination import marked
from vitkd_bench.report.controls import is_control
from vitkd_bench.report.rows import Row
from vitkd_bench.report.shifts import Scoring, ShiftScore
from vitkd_bench.report.words import NONE, percent, percent_interval, points, points_interval
from vitkd_bench.statistics import Interval

WIDEST = 5
"""Shift splits in one table."""
SHIFTS_EXPLAINED = (
    "Top-1 on shifted images by the rule in the title, mean over seeds with the half width of its 95 % t "
    "interval; in brackets what is lost, in percentage points, from the clean images of the very same "
    "classes (Clean, split {clean}), paired by seed."
)
OVER_ALL_EXPLAINED = " Over all: any class that the student knows can be its answer; clean in brackets."
GROUPS_EXPLAINED = (
    "Means over the classes of a group of the accuracy of each ({bounds}), over seeds, with the half width "
    "of their 95 % t interval. Top-1 is over images, per class over all classes; delta: its paired "
    "difference, in percentage points, to the same student trained without a teacher."
)
FIDELITY_EXPLAINED = (
    "Agreement: test images on which student and teacher have the same first class. KL: divergence of the "
    "student's probabilities from the teacher's, mean over images, in nats; of a baseline, found from stored "
    "predictions, it is known for at most 100 classes. Means over seeds."
)


@dataclass(frozen=True, slots=True)
class Table:
    """One table as people read it; `what` names the part of the report that it belongs to."""

    what: str
    title: str
    explanation: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def beside_tables(board: Board) -> list[Table]:
    """Lay out all of them, in the order of the leaderboards."""
    groups = board.groups().items()
    long_tails = [table for names, rows in groups for table in _long_tail(names, rows)]
    shifts = [table for names, rows in groups for table in _shifted(names, rows)]
    return [*long_tails, *shifts, *(table for names in board.groups() for table in _fidelity(board, names))]


def _named(row: Row) -> tuple[str, str, str]:
    return row.teacher_name, row.key.student, row.key.method


def _long_tail(names: tuple[str, str], rows: Sequence[Row]) -> Iterable[Table]:
    known = [row.groups for row in rows if row.groups]
    if not known:
        return
    classes = {name: max(groups.classes.get(name, 0) for groups in known) for name in GROUPS}
    shown = [name for name in GROUPS if classes[name]]
    titles = [f"{name.capitalize()}, {classes[name]} classes (%)" for name in shown]
    yield Table(
        "Long tail",
        f"Long tail: {names[0]}, recipe {names[1]}",
        GROUPS_EXPLAINED.format(bounds=known[0].bounds),
        ("Teacher", "Student", "Method", "Top-1 (%)", "Per class (%)", "Delta per class (pp)", *titles),
        tuple(_group_cells(row, shown) for row in rows if row.groups),
    )


def _group_cells(row: Row, shown: Sequence[str]) -> tuple[str, ...]:
    groups = row.groups
    if groups is None:
        return ()
    delta = points_interval(groups.delta.interval if groups.delta else None)
    return (
        *_named(row),
        percent_interval(row.top1),
        percent_interval(groups.per_class),
        "baseline" if row.is_baseline else delta,
        *(percent_interval(groups.accuracy.get(name)) for name in shown),
    )


def _shifted(names: tuple[str, str], rows: Sequence[Row]) -> Iterable[Table]:
    """One table for splits of one rule, class map and clean images: what may be compared stands together."""
    places: dict[tuple[Scoring, int], list[str]] = {}
    for score_of in (row.shifted for row in rows):
        for split, score in score_of.items():
            splits = places.setdefault((score.scoring, score.clean_n or 0), [])
            splits += [] if split in splits else [split]
    for (scoring, clean_n), splits in sorted(places.items()):
        for start in range(0, len(splits), WIDEST):
            yield _shift_table(names, rows, scoring, clean_n, sorted(splits)[start : start + WIDEST])


def _shift_table(
    names: tuple[str, str], rows: Sequence[Row], scoring: Scoring, clean_n: int, splits: Sequence[str]
) -> Table:
    shown = [row for row in rows if any(split in row.shifted for split in splits)]
    over_all = [s for s in splits if any(r.shifted[s].over_all for r in shown if s in r.shifted)]
    clean = f"Clean, {clean_n} images (%)" if clean_n else "Clean (%)"
    return Table(
        "Shifted images",
        f"Shifted images: {names[0]}, recipe {names[1]}, scored {scoring.title}",
        SHIFTS_EXPLAINED.format(clean=scoring.clean_split) + (OVER_ALL_EXPLAINED if over_all else ""),
        (
            *("Teacher", "Student", "Method", clean),
            *(f"{split} (%)" for split in splits),
            *(f"{split}, over all (%)" for split in over_all),
        ),
        tuple(_shift_cells(row, splits, over_all) for row in shown),
    )


def _shift_cells(row: Row, splits: Sequence[str], over_all: Sequence[str]) -> tuple[str, ...]:
    scores = {split: row.shifted[split] for split in splits if split in row.shifted}
    clean = next((score.clean for score in scores.values() if score.clean), None)
    return (
        *_named(row),
        marked(percent_interval(clean), row.seen),
        *(_shift_cell(scores.get(split)) for split in splits),
        *(_over_all_cell(scores.get(split)) for split in over_all),
    )


def _shift_cell(score: ShiftScore | None) -> str:
    if score is None:
        return NONE
    return marked(percent_interval(score.top1), score.seen) + _lost(score.drop)


def _lost(drop: Interval | None) -> str:
    """Say by how much accuracy falls, a loss with a minus, in brackets; nothing where that is not known."""
    if drop is None:
        return ""
    half = "" if drop.half_width is None else f" ± {drop.half_width:.1f}"
    return f" ({points(-drop.mean)}{half})"


def _over_all_cell(score: ShiftScore | None) -> str:
    if score is None or score.over_all is None:
        return NONE
    clean = f" ({percent(score.clean_over_all.mean)})" if score.clean_over_all else ""
    return marked(percent_interval(score.over_all), score.seen) + clean


def _fidelity(board: Board, names: tuple[str, str]) -> Iterable[Table]:
    """One table of the rows that have a teacher to agree with; a baseline has a row for each."""
    rows = [row for row in board.rows if (row.key.dataset, row.key.recipe) == names]
    shown = [row for row in rows if row.fidelity and not row.same_as and not is_control(row)]
    seen = {row.key.teacher: row.seen for row in rows if row.seen}
    if shown:
        yield Table(
            "Fidelity",
            f"Fidelity: {names[0]}, recipe {names[1]}",
            FIDELITY_EXPLAINED,
            ("Teacher", "Student", "Method", "Top-1 (%)", "Agreement (%)", "KL (nats)"),
            tuple(_fidelity_cells(row, seen.get(row.key.teacher, ())) for row in shown),
        )


def _fidelity_cells(row: Row, seen: Sequence[str]) -> tuple[str, ...]:
    divergence = row.fidelity.get("kl")
    return (
        marked(row.key.teacher, seen),
        row.key.student,
        row.key.method,
        percent_interval(row.top1),
        percent(row.fidelity.get("agreement")),
        NONE if divergence is None else f"{divergence:.3f}",
    )


def csv_groups(row: Row) -> dict[str, object]:
    """Give a row's accuracies by group of classes as columns of the CSV: fractions, numbers of classes."""
    groups = row.groups
    if groups is None:
        return {}
    return {
        **{f"{name}_top1": interval.mean for name, interval in groups.accuracy.items()},
        **{f"{name}_classes": number for name, number in groups.classes.items()},
        "head_above": groups.head_above,
        "tail_below": groups.tail_below,
        "delta_pp_mean_per_class": groups.delta and groups.delta.interval.mean,
    }


def csv_shifts(row: Row) -> dict[str, object]:
    """Give what stands beside a row's accuracy on each shift split: fractions, drops in percentage points."""
    found: dict[str, object] = {}
    for split, score in row.shifted.items():
        columns = {
            "clean_top1": score.clean and score.clean.mean,
            "drop_pp": score.drop and score.drop.mean,
            "top1_over_all": score.over_all and score.over_all.mean,
            "clean_top1_over_all": score.clean_over_all and score.clean_over_all.mean,
            "drop_pp_over_all": score.drop_over_all and score.drop_over_all.mean,
            "scored": score.scoring.title,
            "teacher_has_seen": " ".join(score.seen) or None,
        }
        found |= {f"{name} {split}": value for name, value in columns.items() if value is not None}
    return found
