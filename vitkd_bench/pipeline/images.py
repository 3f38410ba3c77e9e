"""Images found on disk and not decoded: in folders, in archives, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitkd_bench.contracts import Images
from vitkd_bench.spec import WorldError


@dataclass(frozen=True, slots=True)
class FolderImages:
    """Files `names` under a folder."""

    folder: Path
    names: tuple[str, ...]

    def __len__(self) -> int:
        """Count the files."""
        return len(self.names)

    def read(self, index: int) -> bytes:
        """Read one file."""
        try:
            return (self.folder / self.names[index]).read_bytes()
        except OSError as error:
            raise WorldError(f"{self.place(index)}: cannot be read: {error.strerror or error}") from None

    def place(self, index: int) -> str:
        """Give the path of one file."""
        return str(self.folder / self.names[index])


@dataclass(frozen=True, slots=True)
class ArchiveImages:
    """Members `names` of an archive whose bytes lie as they are in a file, each at (offset, size) of `spans`.

    `unpacked` holds the archive where the file is compressed: it is unpacked in memory, never on disk.
    """

    path: Path
    names: tuple[str, ...]
    spans: NDArray[np.int64]  # (N, 2)
    unpacked: bytes | None = field(default=None, repr=False)

    def __len__(self) -> int:
        """Count the members."""
        return len(self.names)

    def read(self, index: int) -> bytes:
        """Read one member; the file is opened for it, so that processes do not share a position."""
        offset, size = self.spans[index].tolist()
        if self.unpacked is not None:
            return self.unpacked[offset : offset + size]
        try:
            with self.path.open("rb") as file:
                file.seek(offset)
                found = file.read(size)
        except OSError as error:
            raise WorldError(f"{self.place(index)}: cannot be read: {error.strerror or error}") from None
        if len(found) < size:
            raise WorldError(f"{self.place(index)}: the archive ends early; fetch it again")
        return found

    def place(self, index: int) -> str:
        """Give the path of the archive and the member's name."""
        return f"{self.path}/{self.names[index]}"


@dataclass(frozen=True, slots=True, eq=False)
class PixelImages:
    """Images that lie in one array `pixels` (N, C, H, W) uint8; `source` says which file it was."""

    pixels: NDArray[np.uint8]
    source: str

    def __len__(self) -> int:
        """Count the images."""
        return len(self.pixels)

    def read(self, index: int) -> NDArray[np.uint8]:
        """Give the pixels of one image."""
        return np.asarray(self.pixels[index])

    def place(self, index: int) -> str:
        """Give the file and the number of one image."""
        return f"{self.source}, image {index}"


@dataclass(frozen=True, slots=True, eq=False)
class ChosenImages:
    """Some of other images, in the order of `at` (N,)."""

    images: Images
    at: NDArray[np.int64]

    def __len__(self) -> int:
        """Count the chosen ones."""
        return len(self.at)

    def read(self, index: int) -> bytes | NDArray[np.uint8]:
        """Read one of them."""
        return self.images.read(int(self.at[index]))

    def place(self, index: int) -> str:
        """Say where one of them lies."""
        return self.images.place(int(self.at[index]))


@dataclass(frozen=True, slots=True, eq=False)
class JoinedImages:
    """Images of several places, one after the other: shards, archives of one class each."""

    parts: tuple[Images, ...]
    starts: NDArray[np.int64]  # (number of parts,), first position of each

    @classmethod
    def of(cls, parts: Sequence[Images]) -> JoinedImages:
        """Join them in their order."""
        lengths = [0, *(len(part) for part in parts)]
        return cls(tuple(parts), np.cumsum(lengths[:-1], dtype=np.int64))

    def __len__(self) -> int:
        """Count all images."""
        return sum(len(part) for part in self.parts)

    def read(self, index: int) -> bytes | NDArray[np.uint8]:
        """Read an image of the part it stands in."""
        part, within = self._at(index)
        return part.read(within)

    def place(self, index: int) -> str:
        """Say where an image lies."""
        part, within = self._at(index)
        return part.place(within)

    def _at(self, index: int) -> tuple[Images, int]:
        which = int(np.searchsorted(self.starts, index, side="right")) - 1
        return self.parts[which], index - int(self.starts[which])
