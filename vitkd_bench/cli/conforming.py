"""What `vitkd teachers test` and `vitkd methods test` share: what a file registers, and what a kit found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitkd_bench.cli.console import show_json, show_table

if TYPE_CHECKING:
    from vitkd_bench.diagnose import Check
    from vitkd_bench.registry import Shelf

WORDS = {"pass": "holds", "refuse": "fails"}


def registered_by(file: Path, shelf: Shelf[Any], none: str) -> list[str]:
    """Load a file and give the names that it brings to a shelf: new ones, and those that stand in it.

    Raises:
        BadInputError: no such file, it fails while it is run, or it brings none, as `none` says.
    """
    from vitkd_bench.registry import load_extension
    from vitkd_bench.spec import BadInputError, nearest

    if not file.is_file():
        there = [one.name for one in file.parent.glob("*.py")]
        raise BadInputError(f"{file}: no such file{nearest(file.name, there)}; a Python file is needed")
    before = set(shelf.names())
    load_extension(file)
    origins = {name: Path(shelf.origin(name)).resolve() for name in shelf.names()}
    own = [name for name, origin in origins.items() if name not in before or origin == file.resolve()]
    if not own:
        raise BadInputError(f"{file}: {none}")
    return own


def show_checks(what: str, found: Mapping[str, Sequence[Check]], *, as_json: bool) -> int:
    """Show what a kit found, by name of each `what` that was tested; how many checks do not hold."""
    if as_json:
        show_json({name: [check.plain() for check in checks] for name, checks in found.items()})
    else:
        rows = [(name, c.name, WORDS[c.status], c.finding) for name, checks in found.items() for c in checks]
        show_table((what, "check", "result", "finding"), rows)
    return sum(check.status == "refuse" for checks in found.values() for check in checks)
