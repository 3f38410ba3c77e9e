"""Where the members of a large tar lie, kept in the cache: a tar has no list and is long to walk."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitkd_bench.spec import cache_folder

LARGE = 1 << 28
"""Bytes from which an archive is worth an index: a smaller one is walked in less than a second."""

Index = tuple[tuple[str, ...], NDArray[np.int64]]


def indexed(path: Path, walk: Callable[[], dict[str, tuple[int, int]]]) -> Index:
    """Give the names of an archive's files, sorted, and offset and size of each, (N, 2).

    They are kept for a large archive by its path, size and time of change, so that walking it again is
    spared to the next process. What is kept and cannot be read is made anew.

    Args:
        path: the archive.
        walk: finds offset and size of each file.
    """
    kept = _kept_at(path)
    if kept is not None and (found := _read(kept)) is not None:
        return found
    spans = walk()
    names = tuple(sorted(spans))
    at = np.array([spans[name] for name in names], dtype=np.int64).reshape(-1, 2)
    if kept is not None:
        _write(kept, names, at)
    return names, at


def _kept_at(path: Path) -> Path | None:
    facts = path.stat()
    if facts.st_size < LARGE:
        return None
    key = f"{path.resolve()}\n{facts.st_size}\n{facts.st_mtime_ns}"
    return cache_folder() / "archives" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"


def _read(kept: Path) -> Index | None:
    try:
        with np.load(kept, allow_pickle=False) as arrays:
            names = tuple(arrays["names"].tobytes().decode("utf-8").split("\0"))
            at = arrays["at"].astype(np.int64)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return (names, at) if at.shape == (len(names), 2) else None


def _write(kept: Path, names: tuple[str, ...], at: NDArray[np.int64]) -> None:
    """Keep an index, whole or not at all; a cache that cannot be written to is no reason to fail."""
    text = np.frombuffer("\0".join(names).encode("utf-8"), dtype=np.uint8)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=kept.parent, suffix=".part", delete=False) as file:
            np.savez(file, names=text, at=at)
        Path(file.name).replace(kept)
    except OSError:
        return
