"""`vitkd status`, `vitkd report` and `vitkd validate`: what stands in output folders. Without torch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitkd_bench.cli.arguments import Json
from vitkd_bench.cli.console import duration, percent, say, show, show_json, show_table

if TYPE_CHECKING:
    from vitkd_bench.records import StatusRow, StatusTable

WATCH_S = 2.0
Out = Annotated[Path, typer.Argument(help="Output folder of a run.")]


def status(
    out: Out,
    watch: Annotated[bool, typer.Option("--watch", help="Look again until nothing is running.")] = False,
    as_json: Json = False,
) -> None:
    """Show which runs are done, failed, running or missing."""
    from vitkd_bench.records import Preparations, Store
    from vitkd_bench.records import status as look

    store = Store(_existing(out))
    while True:
        table = look(store, Preparations())
        if as_json:
            show_json(table.plain())
        else:
            _show_status(table)
        if not watch or store.lock("launcher").holder() is None:
            return
        time.sleep(WATCH_S)


def report(
    outs: Annotated[list[Path], typer.Argument(metavar="OUT...", help="Output folders of runs.")],
    to: Annotated[
        Path | None, typer.Option("--to", help="Where the report goes.", show_default="OUT/report")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write leaderboard, heatmaps and page from the records of one or more output folders."""
    from vitkd_bench.report import write_report

    folders = [_existing(out) for out in outs]
    files = write_report(folders, to or folders[0] / "report")
    if as_json:
        show_json([str(file) for file in files])
        return
    for file in files:
        show(str(file))


def validate(out: Out, as_json: Json = False) -> None:
    """Check every record: sound, of this plan, and in agreement with its predictions."""
    from vitkd_bench.cli.validation import check

    checked, problems = check(_existing(out))
    if as_json:
        show_json({"checked": checked, "problems": problems})
    else:
        for problem in problems:
            show(problem)
        show(f"{checked} records checked, {len(problems)} problem(s)")
    raise typer.Exit(int(bool(problems)))


def _existing(out: Path) -> Path:
    from vitkd_bench.spec import BadInputError

    if not out.is_dir():
        raise BadInputError(f"{out}: no such folder")
    return out


def _show_status(table: StatusTable) -> None:
    rows = [row for row in table.rows if row.state not in {"done", "missing"}]
    if rows:
        show_table(("run", "state", "cell", "seed", "progress", "why"), [_row(row) for row in rows])
    for damage in table.damage:
        say(damage)
    counts = ", ".join(f"{count} {state}" for state, count in table.counts.items() if count)
    show(f"{table.suite}: {counts or 'no runs'}; {table.refused} cells refused")


def _row(row: StatusRow) -> tuple[str, ...]:
    cell = row.cells[0] if row.cells else row.method
    return (row.run_id, row.state, cell, str(row.seed), _progress(row), row.why)


def _progress(row: StatusRow) -> str:
    if row.state != "running" or not row.progress:
        return ""
    said = row.progress
    age = duration(row.heartbeat_age)
    return f"{said.get('epoch')}/{said.get('epochs')} val {percent(said.get('accuracy'))}, heard of {age} ago"
