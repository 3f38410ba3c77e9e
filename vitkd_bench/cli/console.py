"""Where output goes: data to stdout, all else to stderr."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDE = 10_000  # a pipe has no width: nothing is cut


def stdout() -> Console:
    """Make a console for data; colours and widths follow the terminal and NO_COLOR."""
    console = Console(highlight=False, soft_wrap=True)
    return console if console.is_terminal else Console(highlight=False, soft_wrap=True, width=_WIDE)


def stderr() -> Console:
    """Make a console for what accompanies the work."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(message: str) -> None:
    """Print one line for people, to stderr."""
    stderr().print(Text(message))


def show(message: str) -> None:
    """Print one line of the answer, to stdout."""
    stdout().print(Text(message))


def show_json(data: Any) -> None:
    """Print an answer for a script."""
    print(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))  # noqa: T201 - stdout is its place


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; a terminal folds long cells, a pipe gets each row on a line."""
    console = stdout()
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    if console.is_terminal:
        console.print(table, soft_wrap=False)
        return
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        if line.strip():
            print(line.rstrip())  # noqa: T201 - stdout is its place


def show_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Print name and value, a line each; values that are absent are left out."""
    kept = [(name, _cell(value)) for name, value in facts if value not in (None, "", (), [], {})]
    width = max((len(name) for name, _ in kept), default=0)
    for name, value in kept:
        show(f"{name:<{width}}  {value}")


def percent(fraction: float | None) -> str:
    """Write a fraction for people: `91.3 %`; a dash where there is none."""
    return "–" if fraction is None else f"{100 * fraction:.1f} %"


def duration(seconds: float | None) -> str:
    """Write a time for people: `1:05:09`, `4:07`; a dash where there is none."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
