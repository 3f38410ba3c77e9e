"""The contract of a data set's reader, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from vitkd_bench.spec import ClassInfo, Dataset, DatasetSettings


@dataclass(frozen=True, slots=True)
class Examples:
    """One split, decoded: `images` (N, C, H, W) uint8, `labels` (N,) int64, `ids` one text a sample.

    Ids are unique within the data set and the same on every machine (a path inside the archive, say).
    """

    images: np.ndarray
    labels: np.ndarray
    ids: tuple[str, ...]

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.ids)


class Reader(Protocol):
    """Opens files already on disk; fetching is a step of its own."""

    def classes(
        self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]
    ) -> tuple[ClassInfo, ...]:
        """List the classes in their order, after any subset, without decoding images.

        Raises:
            WorldError: the files are not there; says where they were looked for.
        """

    def open(
        self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...], image_size: int | None
    ) -> dict[str, Examples]:
        """Decode the splits `train`, `val` and `test`, disjoint; square images of `image_size`, if given.

        Raises:
            WorldError: a file is missing or cannot be decoded; names it.
        """
