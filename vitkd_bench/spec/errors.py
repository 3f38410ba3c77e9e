"""The errors that a person sees: one line each, with the exit status that belongs to it."""

from __future__ import annotations

import bisect
import difflib
from collections.abc import Iterable


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
