"""`vitkd run` and `vitkd plan`."""

from __future__ import annotations

import itertools
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitkd_bench.cli.arguments import Json
from vitkd_bench.cli.console import percent, say, show, show_facts, show_json, show_table

if TYPE_CHECKING:
    from vitkd_bench.launch import LaunchOptions, Outcome
    from vitkd_bench.spec import Plan, Refusal

HEAD = 12  # rows of the leaderboard that `run` shows


class Executor(StrEnum):
    """What carries packs to processors."""

    inline = "inline"
    local = "local"


SuiteArgument = Annotated[str, typer.Argument(help="A suite's file, or the name of a shipped one (smoke).")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a field of the suite, e.g. recipe.epochs=3."),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data-root",
        help="Where data is looked for, after the folder of the suite.",
        show_default="$VITKD_DATA",
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="GLOB", help="Cells to keep, as teacher:student:method:dataset."),
]


def run(  # noqa: PLR0917 - typer calls it by names
    suite: SuiteArgument,
    out: Annotated[
        Path | None, typer.Option("--out", help="Output folder.", show_default="runs/<suite>")
    ] = None,
    executor: Annotated[
        Executor, typer.Option("--executor", help="In this process, or under a pool of workers.")
    ] = Executor.local,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Worker processes.", show_default="one a core")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:<n>, or auto.")] = "auto",
    data_workers: Annotated[
        int | None,
        typer.Option(
            "--data-workers",
            min=0,
            help="Processes that make batches for one worker.",
            show_default="its share of the cores on a GPU, else none",
        ),
    ] = None,
    settings: Settings = None,
    data_root: DataRoot = None,
    only: Only = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")] = False,
    as_json: Json = False,
) -> None:
    """Do every run of a suite that is not done yet, then write the report.

    Finished runs are never repeated, failed ones are tried again. Ctrl-C ends it, a second one by force; the
    next run goes on from the last checkpoints.
    """
    planned, roots = _plan(suite, settings, data_root, only, check=not dry_run)
    if dry_run:
        _show_plan(planned, as_json=as_json)
        return
    folder = _output_folder(out, planned)
    from vitkd_bench.launch import LaunchOptions, resolve_device

    options = LaunchOptions(
        executor=executor.value,
        jobs=jobs,
        device=resolve_device(device),
        roots=roots,
        data_workers=data_workers,
    )
    waiting = True
    while waiting:
        if planned.searches:
            planned, _ = _plan(suite, settings, data_root, only, check=True, out=folder)
        outcome = _launch(planned, folder, options)
        waiting = bool(planned.waiting) and not outcome.exit_code
    _tell(planned, folder, outcome, as_json=as_json)
    left_out = bool(planned.absent) or any(refusal.amendable for refusal in planned.refusals)
    raise typer.Exit(outcome.exit_code or int(left_out))


def plan(
    suite: SuiteArgument,
    settings: Settings = None,
    data_root: DataRoot = None,
    only: Only = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where trials of searches are looked for.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what a suite comes to: cells, refusals, preparations, packs. Nothing is run or written."""
    planned, _ = _plan(suite, settings, data_root, only, out=out)
    _show_plan(planned, as_json=as_json)


def _plan(
    suite: str,
    settings: list[str] | None,
    data_root: Path | None,
    only: list[str] | None,
    *,
    check: bool = False,
    out: Path | None = None,
) -> tuple[Plan, tuple[Path, ...]]:
    from vitkd_bench.api import data_roots, load_suite, plan_suite
    from vitkd_bench.spec import BadInputError

    if data_root is not None and not data_root.is_dir():
        raise BadInputError(f"--data-root {data_root}: no such folder")
    suite_file = load_suite(suite, settings or ())
    planned = plan_suite(suite_file, data_root=data_root, only=only or (), check=check, out=out)
    if only and not (planned.cells or planned.refusals or planned.waiting):
        raise BadInputError(f"--only {' '.join(only)}: matches no cell of {suite_file.path}")
    return planned, data_roots(suite_file, data_root)


def _output_folder(out: Path | None, planned: Plan) -> Path:
    from vitkd_bench.spec import BadInputError, WorldError

    if not planned.runs:
        # what is not on this machine is no slip of the suite
        absent = any(refusal.amendable for refusal in planned.refusals)
        raise (WorldError if absent else BadInputError)(_nothing_to_run(planned))
    folder = out or Path("runs") / planned.suite
    if folder.exists() and not folder.is_dir():
        raise BadInputError(f"--out {folder}: a file stands there")
    return folder


def _nothing_to_run(planned: Plan) -> str:
    first = min(planned.refusals, key=lambda refusal: not refusal.amendable)
    count = len(planned.refusals)
    return f"nothing to run: all {count} cells are refused; {_cell(first)}: {first.reason}"


def _cell(refusal: Refusal) -> str:
    return f"{refusal.teacher}:{refusal.student}:{refusal.method}:{refusal.dataset}"


def _launch(planned: Plan, folder: Path, options: LaunchOptions) -> Outcome:
    from vitkd_bench.cli.progress import ProgressBar
    from vitkd_bench.launch import launch
    from vitkd_bench.records import Preparations, Store

    workers = (
        "this process" if options.executor == "inline" else f"{options.workers(len(planned.packs))} worker(s)"
    )
    say(f"{planned.suite}: {len(planned.runs)} runs in {folder}, {workers} on {options.device}")
    with ProgressBar() as bar:
        return launch(planned, Store(folder), Preparations(), options, bar)


def _tell(planned: Plan, folder: Path, outcome: Outcome, *, as_json: bool) -> None:
    """Say how it ended; the report is written unless somebody is waiting for us to end."""
    from vitkd_bench.report import write_report

    files = [] if outcome.interrupted else write_report([folder], folder / "report")
    if as_json:
        show_json(_answer(planned, folder, outcome, files))
    elif files:
        _show_head(folder / "report" / "leaderboard.csv")
        for file in files:
            show(str(file))
    for damage in outcome.damage:
        say(f"damaged: {damage}")
    for run_id, reason in outcome.failures.items():
        say(f"failed: {run_id}: {reason}")
    for refusal in planned.refusals:
        if refusal.amendable:
            say(f"not run: {_cell(refusal)}: {refusal.reason}")
    for label, reason in planned.absent.items():
        say(f"not evaluated on: {label}: {reason}")
    state = "interrupted, " if outcome.interrupted else ""
    again = "; the same command goes on from here" if outcome.exit_code else ""
    say(f"{state}{outcome.done} of {len(planned.runs)} runs done, {outcome.failed} failed{again}")


def _answer(planned: Plan, folder: Path, outcome: Outcome, files: list[Path]) -> dict[str, Any]:
    return {
        "suite": planned.suite,
        "out": str(folder),
        "runs": len(planned.runs),
        "done": outcome.done,
        "failed": outcome.failed,
        "failures": outcome.failures,
        "damaged": list(outcome.damage),
        "interrupted": outcome.interrupted,
        "refused": len(planned.refusals),
        "report": [str(file) for file in files],
    }


def _show_head(leaderboard: Path) -> None:
    """Show the first rows of the leaderboard; a native student that is the standard one is shown once."""
    import csv

    with leaderboard.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if not _shown_already(row)]
    columns = ("dataset", "teacher", "student", "method", "top-1", "delta, points", "seeds", "verdict")
    show_table(columns, map(_head_row, rows[:HEAD]))
    if len(rows) > HEAD:
        show(f"... and {len(rows) - HEAD} more rows in {leaderboard}")


def _shown_already(row: dict[str, str]) -> bool:
    return bool(row["same_runs_as_student"]) and row["student"] != "standard"


def _head_row(row: dict[str, str]) -> tuple[str, ...]:
    names = tuple(row[name] for name in ("dataset", "teacher", "student", "method"))
    top1 = percent(float(row["top1"])) if row["top1"] else row["status"]
    delta = f"{float(row['delta_pp']):+.1f}" if row["delta_pp"] else ""
    if row["delta_pp_low"]:
        delta += f" ({float(row['delta_pp_low']):+.1f} to {float(row['delta_pp_high']):+.1f})"
    return (*names, top1, delta, row["seeds_done"], row["verdict"])


def _show_plan(planned: Plan, *, as_json: bool) -> None:
    if as_json:
        show_json(planned.plain())
        return
    show_table(
        ("teacher", "student", "method", "dataset", "runs"),
        [
            (cell.teacher, cell.student, cell.method, cell.dataset, " ".join(cell.runs.values()))
            for cell in planned.cells
        ],
    )
    if planned.refusals:
        show_table(
            ("refused", "student", "method", "dataset", "why", "reason"),
            [(r.teacher, r.student, r.method, r.dataset, r.kind, r.reason) for r in planned.refusals],
        )
    if planned.prepares:
        show_table(("preparation", "makes"), planned.prepares.items())
    if planned.searches:
        show_table(
            ("searched", "student", "method", "dataset", "setting", "values", "chosen on val"),
            [
                (
                    *(s.teacher, s.student, s.method, s.dataset, s.setting),
                    ", ".join(map(str, s.values)),
                    None if s.chosen is None else str(s.values[s.chosen]),
                )
                for s in planned.searches
            ],
        )
    show_facts(
        (
            ("cells", len(planned.cells)),
            ("refused", len(planned.refusals)),
            ("waiting for a search", planned.waiting or None),
            ("preparations", len(planned.preparations)),
            (
                "runs",
                f"{len(planned.runs)}, {sum(run.recipe.epochs for run in planned.runs.values())} epochs",
            ),
            ("packs", len(planned.packs)),
            ("evaluated on", [*itertools.chain(*planned.evaluate.values()), *planned.shift_sets]),
            ("not evaluated on", [f"{label}: {reason}" for label, reason in planned.absent.items()]),
        )
    )
