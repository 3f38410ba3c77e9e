"""The leaderboard as Markdown, CSV and LaTeX, all from one board."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined
from tabulate import tabulate

from vitkd_bench.report.beside import beside_tables, csv_groups, csv_shifts
from vitkd_bench.report.board import Board, FailedRun
from vitkd_bench.report.contamination import LEGEND, MARK, marked
from vitkd_bench.report.controls import ControlRow
from vitkd_bench.report.families import FamilyRow
from vitkd_bench.report.rows import Row
from vitkd_bench.report.searches import SearchRow
from vitkd_bench.report.summary import summary
from vitkd_bench.report.words import (
    NONE,
    percent,
    percent_interval,
    points_interval,
    probability,
    setting,
)
from vitkd_bench.spec import Refusal

LEADERBOARD = (
    "Teacher",
    "Family",
    "Student",
    "Method",
    "Top-1 (%)",
    "Per class (%)",
    "Delta (pp)",
    "Seeds",
    "Verdict",
    "Remarks",
)
FAMILIES = (
    "Family",
    "Student",
    "Method",
    "Delta (pp)",
    "Seeds",
    "p (Holm)",
    "Verdict",
    "Published",
    "Remarks",
)
CONTROLS = (
    "Teacher",
    "Student",
    "Method",
    "Control",
    "Top-1 (%)",
    "Delta (pp)",
    "Method - control (pp)",
    "Seeds",
    "Verdict",
    "Remarks",
)
SEARCHES = ("Teacher", "Student", "Method", "Setting", "Chosen", "Trials", "Top-1 on val (%) by value")
REFUSALS = ("Teacher", "Student", "Method", "Data set", "Kind", "Reason")
FAILURES = ("Run", "Seed", "Cell", "Step", "Why")
EXPLANATION = (
    "Top-1: mean over seeds with the half width of its 95 % t interval. Per class: mean over classes of the "
    "accuracy of each, where top-1 is that over images. Delta: paired difference, in "
    "percentage points, to the same student trained without a teacher (method none; same data, recipe and "
    "seed), with its 95 % t interval over seeds. Verdict: the interval lies above zero (transfers), below "
    "(fails), or neither (undecided)."
)
RATIO_EXPLAINED = (
    "Gradient ratio: norm of the gradient, on the student, of the method's own part of the loss over that of "
    "the labels (and of kd, where it stands beside), mean over the first 1 % of the steps and over seeds; a "
    "weight of the labels' scale gives 0.05 to 1, one that rises from 0 less. A method's row without one has "
    "a loss of one part (methods on weights, copying, those that read no labels) or a recipe that compiles."
)
CONTROLS_EXPLAINED = (
    "A control takes from a method the one thing that a claim of it rests on; what is at stake stands in its "
    "remarks. Method - control: paired difference in percentage points with its 95 % t interval over seeds. "
    "Controls are no methods: they count for no family's verdict."
)
SEARCHES_EXPLAINED = (
    "Values were tried on val alone, one setting after the other, each with those before it at the chosen "
    "value; top-1 is the mean over the seeds of the search, * is the value chosen: the highest, of equal "
    "ones that of the lower negative log-likelihood. Trials: those of the cell over all its settings, of the "
    "budget that every method has; one that two settings share is trained once. They stand in no other table."
)
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "–": "--",
    MARK: r"\dag{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def explanation(board: Board) -> str:
    """Say what the leaderboard's columns are, and of the remarks what needs it."""
    known = any(row.gradient_ratio is not None for row in board.rows)
    parts = [EXPLANATION, *([RATIO_EXPLAINED] if known else []), *([LEGEND] if board.has_seen else [])]
    return " ".join(parts)


def leaderboard_cells(row: Row) -> tuple[str, ...]:
    """What people read of a row, in the order of `LEADERBOARD`."""
    return (
        row.teacher_name,
        NONE if row.is_baseline else row.teacher.family,
        row.key.student,
        row.key.method,
        percent_interval(row.top1),
        percent(row.macro),
        "baseline" if row.is_baseline else points_interval(row.delta.interval if row.delta else None),
        _seeds(len(row.done), len(row.run_ids)),
        row.verdict or ("" if row.is_baseline else NONE),
        "; ".join(row.remarks),
    )


def control_cells(control: ControlRow) -> tuple[str, ...]:
    """What people read of a control, in the order of `CONTROLS`."""
    row, advantage = control.row, control.advantage
    return (
        row.teacher_name,
        row.key.student,
        control.method,
        control.name,
        percent_interval(row.top1),
        points_interval(row.delta.interval if row.delta else None),
        points_interval(advantage.interval if advantage else None),
        _seeds(len(row.done), len(row.run_ids)),
        control.verdict or NONE,
        "; ".join(control.remarks),
    )


def search_cells(search: SearchRow) -> tuple[str, ...]:
    """What people read of a search, in the order of `SEARCHES`."""
    also = f" ({', '.join(search.also)} {'is' if len(search.also) == 1 else 'are'} the same)"
    return (
        marked(search.teacher, search.seen),
        search.student + (also if search.also else ""),
        search.method,
        search.asked,
        search.value,
        search.spent,
        "; ".join(tried_cells(search)),
    )


def tried_cells(search: SearchRow) -> list[str]:
    """Each value with what it came to, the chosen one with a star."""
    tried = [
        f"{setting(each.value)}: {'failed' if each.failed else percent(each.top1)}" for each in search.tried
    ]
    return [f"{text}*" if i == search.chosen else text for i, text in enumerate(tried)]


def without_trials(board: Board, dataset: str, recipe: str) -> str:
    """Name the methods that chose nothing, or nothing."""
    names = board.without_trials(dataset, recipe)
    return f"0 trials, settings as the suite gives them: {', '.join(names)}." if names else ""


def family_cells(row: FamilyRow) -> tuple[str, ...]:
    """What people read of a family's verdict, in the order of `FAMILIES`."""
    published = row.published and f"{row.published} ({row.beside_published})"
    return (
        marked(row.family, row.seen) + (f" ({len(row.teachers)} teachers)" if len(row.teachers) > 1 else ""),
        row.student,
        row.method,
        points_interval(row.delta.interval),
        str(row.delta.interval.n),
        probability(row.p_holm),
        row.verdict,
        published or NONE,
        row.remark,
    )


def refusal_cells(refusal: Refusal) -> tuple[str, ...]:
    """What people read of a refusal, in the order of `REFUSALS`."""
    kind = refusal.kind.replace("_", " ")
    return refusal.teacher, refusal.student, refusal.method, refusal.dataset, kind, refusal.reason


def failure_cells(failed: FailedRun) -> tuple[str, ...]:
    """What people read of a failed run, in the order of `FAILURES`."""
    step = NONE if failed.step is None else str(failed.step)
    why = f"{failed.kind}: {failed.message}"
    return failed.run_id, str(failed.seed), ", ".join(failed.cells), step, why


def _seeds(done: int, planned: int) -> str:
    return str(done) if done == planned else f"{done} of {planned}"


def to_markdown(board: Board) -> str:
    """Write the board as Markdown."""
    parts = [f"# Leaderboard: {board.title}", " ".join(summary(board)), explanation(board)]
    for (dataset, recipe), rows in board.groups().items():
        parts += [f"## {dataset}, recipe {recipe}", _pipe(LEADERBOARD, map(leaderboard_cells, rows))]
    for (dataset, recipe), searches in board.search_groups().items():
        table = _pipe(SEARCHES, map(search_cells, searches))
        told = [SEARCHES_EXPLAINED, table, without_trials(board, dataset, recipe)]
        parts += [f"## Settings chosen on val: {dataset}, recipe {recipe}", *filter(None, told)]
    for beside in beside_tables(board):
        parts += [f"## {beside.title}", beside.explanation, _pipe(beside.header, beside.rows)]
    for title, header, lines in _further(board):
        parts += [f"## {title}", _pipe(header, lines)]
    for protocol in board.protocols:
        parts.append(f"## Protocol: {protocol.dataset}, recipe {protocol.recipe}")
        parts.append("\n".join(f"- {name}: {value}" for name, value in protocol.facts))
    parts += ["## Provenance", "\n".join(_provenance(board))] if board.provenance else []
    parts += ["## Notes", "\n".join(f"- {note}" for note in board.notes)] if board.notes else []
    return "\n\n".join(parts) + "\n"


def _beside(board: Board) -> Iterable[tuple[str, Sequence[str], Sequence[tuple[str, ...]]]]:
    """The tables of shifts and of groups of classes, each with its explanation in its title."""
    for table in beside_tables(board):
        yield f"{table.title}. {table.explanation}", table.header, table.rows


def _further(board: Board) -> Iterable[tuple[str, Sequence[str], list[tuple[str, ...]]]]:
    """The tables below the leaderboard that have rows."""
    for names, controls in board.control_groups().items():
        yield f"Controls: {names[0]}, recipe {names[1]}", CONTROLS, [control_cells(c) for c in controls]
    for names in dict.fromkeys((row.dataset, row.recipe) for row in board.families):
        rows = [family_cells(row) for row in board.families if (row.dataset, row.recipe) == names]
        yield f"Verdict by family: {names[0]}, recipe {names[1]}", FAMILIES, rows
    if board.refusals:
        yield "Refused cells", REFUSALS, [refusal_cells(refusal) for refusal in board.refusals]
    if board.failed:
        yield "Failed runs", FAILURES, [failure_cells(failed) for failed in board.failed]


def _provenance(board: Board) -> list[str]:
    return [
        f"- {part.title}: {text} ({number} runs)" if number != 1 else f"- {part.title}: {text} (1 run)"
        for part in board.provenance
        for text, number in part.counts
    ]


def _pipe(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    escaped = [[_in_a_pipe_table(cell) for cell in row] for row in rows]
    return tabulate(escaped, headers=list(header), tablefmt="pipe", disable_numparse=True, stralign="left")


def _in_a_pipe_table(text: str) -> str:
    """Keep a cell in its cell: no bars, no line breaks, no accidental emphasis or HTML."""
    flat = " ".join(text.split())
    return re.sub(r"([|*_`<\\])", r"\\\1", flat)


def to_latex(board: Board) -> str:
    """Write the board as booktabs tables, one a data set and recipe, with what was refused below."""
    environment = Environment(
        loader=PackageLoader("vitkd_bench.report"),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - LaTeX, escaped by the filter below
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["tex"] = escape_latex
    tables = [
        (f"{dataset}, recipe {recipe}", LEADERBOARD, [leaderboard_cells(row) for row in rows])
        for (dataset, recipe), rows in board.groups().items()
    ]
    searches = [
        (f"Settings chosen on val: {dataset}, recipe {recipe}", SEARCHES, [search_cells(row) for row in rows])
        for (dataset, recipe), rows in board.search_groups().items()
    ]
    return environment.get_template("leaderboard.tex.j2").render(
        board=board,
        explanation=explanation(board),
        tables=[*tables, *searches, *_beside(board), *_further(board)],
    )


def escape_latex(text: str) -> str:
    """Write text so that LaTeX prints it as it stands, on one line."""
    return "".join(_SPECIAL.get(character, character) for character in " ".join(text.split()))


def to_csv(board: Board) -> str:
    """Write one line a cell, refused ones included: accuracies as fractions, deltas in percentage points."""
    lines = [*(_csv_row(row, board.shifts) for row in board.rows), *(_csv_refusal(r) for r in board.refusals)]
    names = list(dict.fromkeys(name for line in lines for name in line))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return buffer.getvalue()


def _csv_row(row: Row, shifts: tuple[str, ...]) -> dict[str, object]:
    top1, delta = row.top1, row.delta.interval if row.delta else None
    return {
        "dataset": row.key.dataset,
        "recipe": row.key.recipe,
        "teacher": row.key.teacher,
        "family": row.teacher.family,
        "group": row.teacher.group,
        "published_outcome": row.teacher.outcome,
        "student": row.key.student,
        "same_runs_as_student": row.same_as,
        "method": row.key.method,
        "method_kind": row.method.kind,
        "control": row.method.control,
        "control_of": row.method.control_of,
        "needs_teacher_at_test": row.method.needs_teacher_at_test,
        "status": row.status,
        "seeds_planned": len(row.run_ids),
        "seeds_done": len(row.done),
        "seeds_failed": len(row.failed),
        "seeds_missing": len(row.missing),
        "seeds_stale": len(row.stale),
        "top1": top1 and top1.mean,
        "top1_low": top1 and top1.low,
        "top1_high": top1 and top1.high,
        "delta_pp": delta and delta.mean,
        "delta_pp_low": delta and delta.low,
        "delta_pp_high": delta and delta.high,
        "delta_seeds": delta and delta.n,
        "verdict": row.verdict,
        "delta_pp_resampled_low": row.resampled and row.resampled.low,
        "delta_pp_resampled_high": row.resampled and row.resampled.high,
        "mean_per_class": row.macro,
        **csv_groups(row),
        **row.fidelity,
        **{f"top1 {split}": row.shifts.get(split) for split in shifts},
        **csv_shifts(row),
        "test_images": row.images,
        "chosen_on_val": json.dumps(row.chosen) if row.chosen else None,
        "trials": row.trials,
        "gradient_norm_ratio": row.gradient_ratio,
        "wall_s": row.wall_s,
        "hardware": " | ".join(row.hardware),
        "teacher_has_seen": " ".join(row.seen),
        "reason": "; ".join(row.remarks),
        "runs": " ".join(row.run_ids.values()),
    }


def _csv_refusal(refusal: Refusal) -> dict[str, object]:
    names = {part: getattr(refusal, part) for part in ("dataset", "teacher", "student", "method")}
    return {**names, "status": f"refused ({refusal.kind})", "reason": refusal.reason}
