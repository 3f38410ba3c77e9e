"""What a list of teachers says of each, kept in the cache so that their contracts need not be built for it.

The index is used only if nothing that it was made from has changed: it opens with a hash of its rows and of
path, size and times of every file of this package. Where another installed package offers teachers, which may
be made from anything, and where this process has the shelf in memory already, the shelf itself is asked.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitkd_bench.spec import cache_folder

if TYPE_CHECKING:
    from vitkd_bench.spec import Teacher

PACKAGE = Path(__file__).resolve().parents[1]
SHELF = "vitkd_bench.teachers"
_FACTS = (
    "name",
    "title",
    "family",
    "group",
    "outcome",
    "certainty",
    "objective",
    "paper",
    "licence",
    "parameters",
)
_SOURCE = ("backend", "location", "sha256")


def teacher_rows() -> list[dict[str, Any]]:
    """Give `teacher_row` of every teacher, in the order of their names."""
    if "vitkd_bench.registry" in sys.modules or entry_points(group=SHELF):
        return _rows_of_shelf()
    path, made_from = cache_folder() / "index" / "teachers.json", _made_from()
    rows = _read(path, made_from)
    if rows is None:
        rows = _rows_of_shelf()
        _write(path, rows, made_from)
    return rows


def teacher_row(teacher: Teacher) -> dict[str, Any]:
    """Give what the list says of a teacher, as plain data; `sources` hold what finding its weights needs."""
    return {
        **{name: getattr(teacher, name) for name in _FACTS},
        "native_components": list(teacher.native_components),
        "sources": [{name: getattr(source, name) for name in _SOURCE} for source in teacher.sources],
    }


def _rows_of_shelf() -> list[dict[str, Any]]:
    from vitkd_bench.registry import TEACHERS

    return [teacher_row(teacher) for teacher in TEACHERS]


def _made_from() -> bytes:
    """Describe all files of the package; the time of change of the inode tells also of a copied file."""
    return json.dumps([sys.version, *sorted(_files(str(PACKAGE)))]).encode()


def _files(folder: str) -> Iterator[str]:
    for entry in os.scandir(folder):
        if not entry.is_dir():
            yield f"{entry.path} {_state(entry)}"
        elif entry.name != "__pycache__":
            yield from _files(entry.path)


def _state(entry: os.DirEntry[str]) -> str:
    try:
        state = entry.stat()
    except FileNotFoundError:  # an editor's lock is a link to nowhere
        return "nowhere"
    return f"{state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}"


def _read(path: Path, made_from: bytes) -> list[dict[str, Any]] | None:
    """Read the index; None if there is none, if it is damaged, or if it was made from other files."""
    try:
        digest, _, content = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    if digest.decode(errors="replace") != _digest(content, made_from):
        return None
    rows: list[dict[str, Any]] = json.loads(content)
    return rows


def _write(path: Path, rows: list[dict[str, Any]], made_from: bytes) -> None:
    """Write the index; where the disk refuses, the next list builds the rows as this one did."""
    content = json.dumps(rows).encode()
    aside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(_digest(content, made_from).encode() + b"\n" + content)
        aside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def _digest(content: bytes, made_from: bytes) -> str:
    return hashlib.sha256(made_from + b"\n" + content).hexdigest()
