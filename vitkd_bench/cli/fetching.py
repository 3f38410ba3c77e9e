"""Fetching for people: a bar on a terminal, a line for what failed, the others still fetched."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from vitkd_bench.cli.console import say, stderr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vitkd_bench.fetch import Found, Watch
    from vitkd_bench.spec import Teacher, VitkdError

INTERRUPTED = 130
GOES_ON = "interrupted; what has arrived is kept, and the same command goes on from there"


def fetch_weights(
    teachers: Iterable[Teacher], backend: str | None, *, accept_new_hash: bool
) -> tuple[dict[str, Found], dict[str, VitkdError]]:
    """Fetch the weights of teachers one after the other; give what came and what did not, by name."""
    from vitkd_bench.fetch import WeightCache
    from vitkd_bench.spec import VitkdError

    cache, found, failed = WeightCache(), {}, {}
    for teacher in teachers:
        try:
            with bar(teacher.name) as watch:
                found[teacher.name] = cache.fetch(
                    teacher, backend, watch=watch, accept_new_hash=accept_new_hash
                )
        except VitkdError as error:
            failed[teacher.name] = error
            say(f"failed: {error}")
        except KeyboardInterrupt:
            say(GOES_ON)
            raise typer.Exit(INTERRUPTED) from None
    return found, failed


def exit_code(failed: dict[str, VitkdError], *, some_came: bool) -> int:
    """The exit status: 0 without failures; theirs if nothing came and they agree; else 1."""
    codes = {error.exit_code for error in failed.values()}
    return codes.pop() if len(codes) == 1 and not some_came else int(bool(failed))


@contextmanager
def bar(name: str) -> Iterator[Watch]:
    """Show how much of a file has arrived; on a terminal only."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = stderr()
    shown = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = shown.add_task(name, total=None)
    with shown:
        yield lambda done, total: shown.update(task, completed=done, total=total)
