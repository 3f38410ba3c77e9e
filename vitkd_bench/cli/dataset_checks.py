"""`vitkd datasets check`: a bar while images are decoded, what was found, and the list of ids to skip."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitkd_bench.cli.console import say, show, show_json, show_table, stderr

if TYPE_CHECKING:
    from vitkd_bench.diagnose.dataset_checks import Checked
    from vitkd_bench.diagnose.dataset_images import Watch
    from vitkd_bench.registry import DatasetEntry

WORDS = {"pass": "holds", "note": "note", "mark": "marked", "refuse": "fails"}


def check(
    entry: DatasetEntry, settings: dict[str, Any], roots: tuple[Path, ...], jobs: int, *, as_json: bool
) -> Checked:
    """Check a data set and show what was found."""
    from vitkd_bench.diagnose.dataset_checks import check_dataset

    with _bar(entry.name) as watch:
        found = check_dataset(entry, settings, roots, jobs=jobs, watch=watch)
    if as_json:
        show_json(_plain(entry.name, found))
    else:
        show_table(
            ("check", "result", "finding"), [(c.name, WORDS[c.status], c.finding) for c in found.checks]
        )
        for one in found.unreadable:
            show(f"cannot be used: {one.reason}")
    return found


def write_skip(file: Path, found: Checked) -> None:
    """Write the ids to skip, one a line: those of images that cannot be used, and those skipped already.

    No file is written where there are none.

    Raises:
        WorldError: it cannot be written.
    """
    from vitkd_bench.records import write_atomically

    ids = sorted({*(one.id for one in found.unreadable), *found.skipped})
    if not ids:
        say(f"no image has to be skipped: {file} is not written")
        return
    write_atomically(file, "".join(f"{id_}\n" for id_ in ids).encode())
    say(f"{file}: {len(ids)} id(s); in a suite: skip: {file.name}")


def _plain(name: str, found: Checked) -> dict[str, Any]:
    return {
        "name": name,
        "sound": found.sound,
        "checks": [check.plain() for check in found.checks],
        "splits": dict(found.sizes),
        "split_hash": found.split_hash,
        "unreadable": [asdict(one) for one in found.unreadable],
        "repeated": [list(group) for group in found.repeated],
    }


@contextmanager
def _bar(name: str) -> Iterator[Watch]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = stderr()
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = bar.add_task(name, total=None)
    with bar:
        yield lambda done, total: bar.update(task, completed=done, total=total)
