"""What transferred, by how much, how sure: in sentences."""

from __future__ import annotations

from vitkd_bench.report.board import Board
from vitkd_bench.report.contamination import marked
from vitkd_bench.report.controls import VERDICTS, is_control
from vitkd_bench.report.families import FamilyRow
from vitkd_bench.report.rows import Row
from vitkd_bench.report.words import bounds, count, points


def summary(board: Board) -> list[str]:
    """Say in a few sentences what transferred, by how much, and how sure that is."""
    compared = [row for row in board.rows if row.delta and not row.same_as and not is_control(row)]
    done = f"{board.counts['done']} of {count(board.counts['planned'], 'run')} done"
    if not compared:
        return [f"Nothing can be compared yet: {done}{_trials(board)}."]
    sentences = [_tally(compared), *_extremes(compared), *_by_method(board), *_controls(board)]
    return [*sentences, f"Basis: {done}{_not_done(board)}{_trials(board)}."]


def _tally(rows: list[Row]) -> str:
    gains, losses = ([r for r in rows if r.verdict == word] for word in ("transfers", "fails"))
    seeds = sorted({row.delta.interval.n for row in rows if row.delta})
    n = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    plural = "" if seeds == [1] else "s"
    return (
        f"Of {count(len(rows), 'comparison')} with the same student trained without a teacher, {len(gains)} "
        f"show{'s' if len(gains) == 1 else ''} a gain, {len(losses)} a loss, and "
        f"{len(rows) - len(gains) - len(losses)} cannot be decided with {n} seed{plural} "
        "(95 % t interval of the paired difference against zero)."
    )


def _extremes(rows: list[Row]) -> list[str]:
    sentences = []
    for word, title, pick in (("transfers", "gain", max), ("fails", "loss", min)):
        sure = [row for row in rows if row.verdict == word]
        if sure:
            row = pick(sure, key=lambda r: r.delta.interval.mean if r.delta else 0.0)
            sentences.append(f"Largest sure {title}: {_case(row)}.")
    return sentences


def _case(row: Row) -> str:
    interval = row.delta.interval if row.delta else None
    value = points(interval.mean) if interval else ""
    where = f"{row.key.method} from {row.teacher_name} to {row.key.student} on {row.key.dataset}"
    return f"{value} pp {bounds(interval)} ({where}, {count(interval.n if interval else 0, 'seed')})"


def _by_method(board: Board) -> list[str]:
    """One sentence a method, data set and student: which families transfer, which fail."""
    questions: dict[tuple[str, str, str, str], list[FamilyRow]] = {}
    for row in board.families:
        questions.setdefault((row.dataset, row.recipe, row.method, row.student), []).append(row)
    sentences = []
    for (dataset, _recipe, method, student), rows in questions.items():
        parts = []
        for word in ("transfers", "fails", "undecided"):
            names = [marked(row.family, row.seen) for row in rows if row.verdict == word]
            if names:
                parts.append(f"{word} for {len(names)} ({', '.join(names)})")
        sentences.append(f"Families, {method} to {student} students on {dataset}: {'; '.join(parts)}.")
    return sentences


def _controls(board: Board) -> list[str]:
    """Say how many controls fall behind their method, catch up with it, or cannot be told from it."""
    told = [control.verdict for control in board.controls if control.advantage]
    if not told:
        return []
    parts = [f"{word} in {told.count(word)}" for word in VERDICTS.values() if word in told]
    return [f"Of {count(len(told), 'comparison')} of a method with a control of it: {', '.join(parts)}."]


def _not_done(board: Board) -> str:
    names = {"failed": "failed", "missing": "missing", "stale": "stale"}
    told = [f"{board.counts[key]} {word}" for key, word in names.items() if board.counts[key]]
    refused = [f"{count(board.counts['refused'], 'cell')} refused"] if board.counts["refused"] else []
    return "".join(f", {text}" for text in told + refused)


def _trials(board: Board) -> str:
    """Say how far the choice of settings is, where some are chosen on val."""
    trials, done = (board.counts.get(key, 0) for key in ("trials", "trials_done"))
    if not trials:
        return ""
    waiting = board.counts.get("waiting", 0)
    cells = f", for which {count(waiting, 'cell')} wait{'s' if waiting == 1 else ''}" if waiting else ""
    return f"; to choose settings on val {done} of {count(trials, 'trial')} done{cells}"
