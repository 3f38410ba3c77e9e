"""A tar of tars, one a class, as ImageNet's training images come: read in place, nothing is unpacked."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from vitkd_bench.pipeline.images import ArchiveImages
from vitkd_bench.pipeline.tar_index import indexed
from vitkd_bench.pipeline.tree import Files, member_spans
from vitkd_bench.spec import WorldError


def open_nested(path: Path) -> Files:
    """Find the members of the tars in a tar: `n01440764/1.JPEG` is in member `n01440764.tar`.

    Raises:
        WorldError: unreadable, truncated, or a member that is no tar or not to be trusted; names it.
    """
    try:
        names, at = indexed(path, partial(_walk, path))
    except OSError as error:
        raise WorldError(f"{path}: cannot be read: {error.strerror or error}") from None
    return Files(path, names, ArchiveImages(path, names, at))


def _walk(path: Path) -> dict[str, tuple[int, int]]:
    spans: dict[str, tuple[int, int]] = {}
    with path.open("rb") as stream:
        for name, (start, size) in member_spans(path, stream).items():
            if not name.endswith(".tar"):
                raise WorldError(f"{path}: member {name!r} is no .tar, of which one a class is needed")
            window = cast("BinaryIO", io.BufferedReader(_Window(stream, start, size)))
            for inner, (offset, length) in member_spans(path / name, window).items():
                spans[f"{name.removesuffix('.tar')}/{inner}"] = start + offset, length
    return spans


class _Window(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, stream: BinaryIO, start: int, size: int) -> None:
        super().__init__()
        self._stream, self._start, self._size, self._at = stream, start, size, 0

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """Any place of it can be gone to."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place of it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """Say at which place it is."""
        return self._at

    def readinto(self, buffer: object) -> int:
        """Read on from where it is, to its end at most."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        wanted = max(0, min(len(view), self._size - self._at))
        self._stream.seek(self._start + self._at)
        found = self._stream.read(wanted)
        view[: len(found)] = found
        self._at += len(found)
        return len(found)
