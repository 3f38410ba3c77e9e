"""The errors that a person sees: one line each, with the exit status that belongs to it."""

from __future__ import annotations

import bisect
import difflib
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path


class VitkdError(Exception):
    """A failure that is reported as one line: what was asked, where, what would work."""

    exit_code = 1


class BadInputError(VitkdError):
    """The request itself is wrong; nothing was run and nothing was written (exit status 2)."""

    exit_code = 2


class WorldError(VitkdError):
    """Something outside failed: a disk, a missing file, another process that holds a lock (exit status 1)."""


class DamagedFileError(WorldError):
    """A stored file is truncated, altered or of an unknown schema; it never counts."""


class WrongHashError(WorldError):
    """A file is sound but not the one that was pinned or recorded (exit status 2: somebody has to decide)."""

    exit_code = 2


LIBRARIES = tuple(
    {str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "purelib", "platlib")}
)
OURS = str(Path(__file__).resolve().parents[1])


def in_words(error: BaseException) -> str:
    """Say in one line what was raised; our own errors need no name, others have one and their place.

    That is the last line of a file of the user's, `mine.py:12: KeyError: 'label'`, where one was run.
    """
    said = " ".join(str(error).split())
    if said and isinstance(error, VitkdError):
        return said
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(("<", OURS, *LIBRARIES))]
    place = f"{own[-1].filename}:{own[-1].lineno}: " if own else ""
    return place + (f"{type(error).__name__}: {said}" if said else type(error).__name__)


MOST_COMPARED = 10_000
"""Names that are compared with a wrong one, in a second; of more, as of ImageNet's files, its neighbours."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name is meant: `"; did you mean 'x'?"`, or the list when it is short, or nothing."""
    names = sorted(known)
    if len(names) > MOST_COMPARED:
        at = bisect.bisect(names, name)
        names = names[max(0, at - MOST_COMPARED // 2) : at + MOST_COMPARED // 2]
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    if names and len(names) <= 20:
        return f"; known: {', '.join(names)}"
    return ""
