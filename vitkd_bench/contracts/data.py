"""The contracts of a data set's reader, of what it finds, and of examples that are ready to be shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from torch import Tensor

    from vitkd_bench.spec import Augmentation, ClassInfo, Dataset, DatasetSettings


class Images(Protocol):
    """Images that were found and are not decoded.

    Any process may read them: what stands here can be pickled, and holds no open file.
    """

    def __len__(self) -> int:
        """Count the images."""

    def read(self, index: int) -> bytes | np.ndarray:
        """Give one image: the bytes of its file, or pixels (C, H, W) uint8.

        Raises:
            WorldError: it cannot be read; names it.
        """

    def place(self, index: int) -> str:
        """Say where an image lies, for an error: a path, and the member of an archive."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a data set, as its source publishes it.

    `labels` (N,) int64 count through all classes of the data set. `ids` are one text a sample, the same on
    every machine (a path inside the archive, say); with `prefix` before it an id is unique in the data set.
    Samples are chosen by hashes of `ids`, which the prefix is no part of. The order is the order of training.
    """

    images: Images
    labels: np.ndarray
    ids: tuple[str, ...]
    prefix: str = ""

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class KnownClass:
    """A class as a reader finds it: what is known of it, and how files name it (a folder, a wnid)."""

    info: ClassInfo
    key: str

    @property
    def words(self) -> tuple[str, ...]:
        """Words by which a subset may name it."""
        return tuple({self.key: None, self.info.name: None})


class Reader(Protocol):
    """Finds files that are already on disk; fetching is a step of its own.

    What is chosen from what is found (classes, val, a part of train) is the pipeline's.
    """

    def classes(
        self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]
    ) -> tuple[KnownClass, ...]:
        """List all classes in their order, without opening an image.

        Raises:
            WorldError: the files are not there; says where they were looked for.
            BadInputError: a list of classes that contradicts itself.
        """

    def parts(self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]) -> dict[str, Part]:
        """Find `train` and `test`, and `val` where one is published; of a shift set `test` alone.

        Raises:
            WorldError: a file is missing, or laid out otherwise; names it.
        """


@dataclass(frozen=True, slots=True)
class Look:
    """How a network is shown an image: the square's side in pixels, and the filter that resizes to it."""

    side: int
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"


class Examples(Protocol):
    """One split, ready to be shown: `labels` (N,) int64, `ids` unique in the data set, square images."""

    @property
    def labels(self) -> np.ndarray:
        """Classes, counted through those of the split's data set."""

    @property
    def ids(self) -> tuple[str, ...]:
        """One text a sample."""

    @property
    def look(self) -> Look:
        """How the images are shown where nothing else is asked for."""

    @property
    def channels(self) -> int:
        """Channels of an image."""

    def __len__(self) -> int:
        """Count the samples."""

    def plain(self, samples: np.ndarray, look: Look | None = None) -> Tensor:
        """Give images (B, C, S, S) uint8, not augmented, of the positions `samples` (B,).

        Raises:
            WorldError: an image cannot be decoded; names it.
        """

    def augmented(
        self,
        samples: np.ndarray,
        draws: np.ndarray,
        rule: Augmentation,
        key: int,
        looks: Sequence[Look],
    ) -> list[Tensor]:
        """Give the same augmented images for each of `looks`: (B, C, S, S), uint8 or float32 in [0, 1].

        What happens to an image depends on `key` and its number in `draws` (B,) alone, and is the same crop,
        flip and colour for every look.

        Raises:
            WorldError: an image cannot be decoded; names it.
        """
