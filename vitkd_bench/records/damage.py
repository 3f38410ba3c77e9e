"""Names of files that stay in their folder, and a place for damaged ones."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from vitkd_bench.spec import BadInputError, WorldError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*")
_NOTE = ".reason.txt"


def is_name(name: str) -> bool:
    """Whether `name` can stand in a file name: it leaves no folder and is not hidden."""
    return _NAME.fullmatch(name) is not None


def checked_name(name: str) -> str:
    """Give `name` back if it can stand in a file name.

    Raises:
        BadInputError: it would leave its folder or be hidden.
    """
    if not is_name(name):
        raise BadInputError(f"{name!r} cannot be a file name: letters, digits and _.@- only, no leading dot")
    return name


def set_aside(path: Path, folder: Path, reason: str) -> Path:
    """Move a damaged file or folder into `folder` under a free name, with `<name>.reason.txt` beside it.

    Returns:
        Where it lies now; `path` itself if somebody else has moved it already.

    Raises:
        WorldError: the disk refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside, note = _reserve(folder, path.name, reason)
        try:
            path.rename(aside)
        except FileNotFoundError:
            note.unlink()
            return path
    except OSError as error:
        raise WorldError(f"{path}: damaged, and cannot be set aside: {error.strerror or error}") from None
    return aside


def damaged_in(folder: Path) -> dict[Path, str]:
    """Why each file or folder was set aside into `folder`, by where it lies now."""
    found = {}
    for note in sorted(folder.glob(f"*{_NOTE}")):
        with contextlib.suppress(FileNotFoundError):  # whoever moved it first has taken the note back
            found[note.with_name(note.name.removesuffix(_NOTE))] = note.read_text(encoding="utf-8").strip()
    return found


def _reserve(folder: Path, name: str, reason: str) -> tuple[Path, Path]:
    """Take a free name by making its note: two processes never overwrite each other's find."""
    number = 1
    while True:
        aside = folder / (name if number == 1 else f"{name}.{number}")
        note = folder / f"{aside.name}{_NOTE}"
        number += 1
        if aside.exists():
            continue
        try:
            with note.open("x", encoding="utf-8") as file:
                file.write(f"{reason}\n")
        except FileExistsError:
            continue
        return aside, note
