"""Files on this machine: hashed, compared with what is expected, and errors of the disk in one line."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vitkd_bench.spec import WorldError, WrongHashError, file_sha256

Watch = Callable[[int, int | None], None]
"""Told how many bytes of a file are here, and of how many; None where the server does not say."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class Expected:
    """A hash that a file has to have; `otherwise` ends the sentence that says it has another."""

    sha256: str
    otherwise: str


@dataclass(frozen=True, slots=True)
class Arrived:
    """A file that is here: its commit, and the hash by which the hub names it; of the hub only."""

    path: Path
    revision: str | None = None
    expected: tuple[Expected, ...] = ()


def check_hash(digest: str, expected: tuple[Expected, ...], where: str) -> None:
    """Compare a hash with all that are expected.

    Raises:
        WrongHashError: it is another one.
    """
    for one in expected:
        if digest != one.sha256:
            raise WrongHashError(f"{where}: sha256 is {digest}, not {one.sha256}, {one.otherwise}")


def sha256_of(path: Path) -> str:
    """Hash a file: 64 hexadecimal digits.

    Raises:
        WorldError: it cannot be read.
    """
    with on_disk(path):
        return file_sha256(path)


@contextlib.contextmanager
def on_disk(path: Path) -> Iterator[None]:
    """Say in one line what the disk refuses; a full one is called so.

    Raises:
        WorldError: an OSError came out of the block.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise WorldError(
                f"{path}: disk full ({error.strerror}); make room and fetch again, what has arrived is kept"
            ) from None
        raise WorldError(f"{path}: {error.strerror or error}") from None
