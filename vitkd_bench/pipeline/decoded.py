"""Examples that were decoded once and are kept in memory, at the size at which they are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitkd_bench.contracts import Look, Part
from vitkd_bench.pipeline.decode import shown
from vitkd_bench.pipeline.views import augment
from vitkd_bench.spec import Augmentation, BadInputError

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """One split: `images` (N, C, S, S) uint8 and `labels` (N,) int64, read-only, and `ids`.

    `others` are the same images for other looks. `native_side` is that of the images as published, whose
    pixels a shift counts (None: those of `images`).
    """

    images: Pixels
    labels: NDArray[np.int64]
    ids: tuple[str, ...]
    interpolation: str = "bicubic"
    native_side: int | None = None
    others: Mapping[Look, Pixels] = field(default_factory=dict)

    @property
    def look(self) -> Look:
        """How `images` are shown."""
        return Look(self.images.shape[-1], "bilinear" if self.interpolation == "bilinear" else "bicubic")

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return int(self.images.shape[1])

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.ids)

    def plain(self, samples: NDArray[np.int64], look: Look | None = None) -> Tensor:
        """Give images (B, C, S, S) uint8 as they were decoded."""
        return torch.from_numpy(self._of(look)[samples])

    def augmented(
        self,
        samples: NDArray[np.int64],
        draws: NDArray[np.int64],
        rule: Augmentation,
        key: int,
        looks: Sequence[Look],
    ) -> list[Tensor]:
        """Augment what was decoded for each look; (B, C, S, S) float32 in [0, 1]."""
        return [self._augmented(self._of(look), samples, draws, rule, key) for look in looks]

    def changed(self, change: Callable[[Pixels, str], Pixels]) -> Decoded:
        """Give the same samples with each image changed by a function of its pixels and its id."""
        return replace(
            self,
            images=_each(self.images, self.ids, change),
            others={look: _each(images, self.ids, change) for look, images in self.others.items()},
        )

    def taken(self, at: NDArray[np.int64], labels: NDArray[np.int64]) -> Decoded:
        """Give the samples at some positions, under other labels."""
        return replace(
            self,
            images=self.images[at],
            labels=labels,
            ids=tuple(self.ids[i] for i in at.tolist()),
            others={look: images[at] for look, images in self.others.items()},
        )

    def _augmented(
        self,
        images: Pixels,
        samples: NDArray[np.int64],
        draws: NDArray[np.int64],
        rule: Augmentation,
        key: int,
    ) -> Tensor:
        pixel = images.shape[-1] / (self.native_side or self.images.shape[-1])  # for every look the same part
        return augment(images[samples], draws, rule, key, pixel)

    def _of(self, look: Look | None) -> Pixels:
        if look is None or look == self.look:
            return self.images
        if look not in self.others:
            raise KeyError(f"images were decoded for {[self.look, *self.others]}, not for {look}")
        return self.others[look]


def decode_part(
    part: Part, look: Look | None, others: Iterable[Look], native_side: int | None, crop: float = 1.0
) -> Decoded:
    """Decode all images of a part for a look (None: in their own size), and for others.

    `crop` is the share of the side of the largest centred square that is kept.

    Raises:
        WorldError: an image cannot be read or decoded; names it.
        BadInputError: images differ in size and no look brings them to one.
    """
    return Decoded(
        _decoded(part, look, crop),
        part.labels,
        tuple(f"{part.prefix}{id_}" for id_ in part.ids),
        look.interpolation if look else "bicubic",
        native_side,
        {other: _decoded(part, other, crop) for other in others if other != look},
    )


def _decoded(part: Part, look: Look | None, crop: float) -> Pixels:
    images: Pixels | None = None
    for i in range(len(part)):
        image = shown(part.images, i, look, crop)
        if images is None:
            images = np.empty((len(part), *image.shape), dtype=np.uint8)
        if image.shape != images.shape[1:]:
            raise BadInputError(
                f"images differ in size ({part.images.place(0)}: {images.shape[2:]}, {part.images.place(i)}: "
                f"{image.shape[1:]}); set image_size in the recipe"
            )
        images[i] = image
    return np.empty((0, 3, 0, 0), np.uint8) if images is None else images


def _each(images: Pixels, ids: Sequence[str], change: Callable[[Pixels, str], Pixels]) -> Pixels:
    found = np.empty_like(images)
    for i, (image, id_) in enumerate(zip(images, ids, strict=True)):
        found[i] = change(image, id_)
    found.setflags(write=False)
    return found
