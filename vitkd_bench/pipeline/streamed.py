"""Examples that stay encoded and are decoded each time they are shown; crops are cut from the whole image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vitkd_bench.contracts import Images, Look
from vitkd_bench.pipeline.decode import RESAMPLING, as_array, opened, shown
from vitkd_bench.pipeline.draws import uniforms
from vitkd_bench.pipeline.images import ChosenImages
from vitkd_bench.pipeline.views import CROP_RATIO, augment, flips
from vitkd_bench.spec import Augmentation
from vitkd_bench.spec.seeds import seeded

ATTEMPTS = 10
"""Boxes that are drawn for a crop before the middle is taken (torchvision `RandomResizedCrop`)."""

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Streamed:
    """One split: images `found` and not decoded, `labels` (N,) int64, `ids`.

    Not augmented, the middle of the largest centred square is shown, `crop` of its side. `native_side` is
    that of the images as published, if they have one. `change` is made of each image that is shown plain, a
    function of its pixels (C, S, S) and its id. With `scaled` a JPEG of which a smaller decoding suffices is
    decoded at 1/2, 1/4 or 1/8 of its size, which libjpeg does in less time.
    """

    found: Images
    labels: NDArray[np.int64]
    ids: tuple[str, ...]
    look: Look
    channels: int = 3
    crop: float = 1.0
    native_side: int | None = None
    change: Callable[[Pixels, str], Pixels] | None = None
    scaled: bool = False

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.ids)

    @property
    def images(self) -> Pixels:
        """Decode all images as they are shown plain, at once: (N, C, S, S) uint8."""
        return np.asarray(self.plain(np.arange(len(self))).numpy())

    def plain(self, samples: NDArray[np.int64], look: Look | None = None) -> Tensor:
        """Decode images and show their middle: (B, C, S, S) uint8."""
        asked = look or self.look
        found = [shown(self.found, int(i), asked, self.crop, scaled=self.scaled) for i in samples]
        if self.change is not None:
            found = [self.change(image, self.ids[int(i)]) for image, i in zip(found, samples, strict=True)]
        return torch.from_numpy(np.stack(found))

    def augmented(
        self,
        samples: NDArray[np.int64],
        draws: NDArray[np.int64],
        rule: Augmentation,
        key: int,
        looks: Sequence[Look],
    ) -> list[Tensor]:
        """Decode images once, cut and mirror them for each look, then do what else `rule` says.

        (B, C, S, S), uint8 where the crop and the mirror are all there is, else float32 in [0, 1]. A crop is
        a box of a share of the image's area in `rule.crop_scale` and a ratio of 3/4 to 4/3, both drawn up to
        ten times until the box lies inside; else the middle.
        """
        drawn = uniforms(seeded(key, "crop"), draws, 4 * ATTEMPTS).T.reshape(-1, ATTEMPTS, 4)
        mirrored = flips(rule, draws, key)
        found: list[list[Pixels]] = [[] for _ in looks]
        side = max(look.side for look in looks)
        for sample, attempts, mirror in zip(samples.tolist(), drawn, mirrored.tolist(), strict=True):
            image, box = self._opened(sample, side, partial(_box, scale=rule.crop_scale, attempts=attempts))
            for look, into in zip(looks, found, strict=True):
                into.append(_cut(image, box, look, mirror=mirror))
        return [self._finished(np.stack(pixels), draws, rule, key) for pixels in found]

    def changed(self, change: Callable[[Pixels, str], Pixels]) -> Streamed:
        """Give the same samples, each image changed when it is shown."""
        return replace(self, change=change)

    def taken(self, at: NDArray[np.int64], labels: NDArray[np.int64]) -> Streamed:
        """Give the samples at some positions, under other labels."""
        ids = tuple(self.ids[i] for i in at.tolist())
        return replace(self, found=ChosenImages(self.found, at), labels=labels, ids=ids)

    def _opened(
        self, sample: int, side: int, box_of: Callable[[tuple[int, int]], Box]
    ) -> tuple[Image.Image, Box]:
        """Decode one image, and give the box to cut, in its pixels as decoded."""
        found = self.found.read(sample)
        if not isinstance(found, bytes):
            pixels = found[0] if len(found) == 1 else np.ascontiguousarray(found.transpose(1, 2, 0))
            image = Image.fromarray(pixels)
            return image, box_of(image.size)
        sizes: list[tuple[int, int]] = []

        def needed(size: tuple[int, int]) -> float:
            sizes.append(size)
            left, top, right, bottom = box_of(size)
            return side / min(right - left, bottom - top)

        image = opened(found, self.found.place(sample), needed if self.scaled else None)
        if not sizes:
            return image, box_of(image.size)
        left, top, right, bottom = box_of(sizes[0])
        across, down = image.width / sizes[0][0], image.height / sizes[0][1]
        return image, (left * across, top * down, right * across, bottom * down)

    def _finished(self, pixels: Pixels, draws: NDArray[np.int64], rule: Augmentation, key: int) -> Tensor:
        rest = rule.model_copy(update={"crop_scale": None, "flip": False})
        if not rest.alters_single_images:
            return torch.from_numpy(pixels)
        pixel = pixels.shape[-1] / (self.native_side or self.look.side)  # for every look the same part
        return augment(pixels, draws, rest, key, pixel)


def _box(size: tuple[int, int], scale: tuple[float, float] | None, attempts: NDArray[np.float64]) -> Box:
    """Give the box of a crop, or of the largest centred square where nothing is cropped."""
    if scale is not None:
        return crop_box(size, scale, attempts)
    short = min(size)
    left, top = (size[0] - short) / 2, (size[1] - short) / 2
    return left, top, left + short, top + short


def crop_box(size: tuple[int, int], scale: tuple[float, float], attempts: NDArray[np.float64]) -> Box:
    """Give left, top, right, bottom of a crop in pixels of an image of `size` (width, height).

    Args:
        size: of the image.
        scale: least and largest share of the area.
        attempts: (10, 4) numbers in [0, 1): area, ratio, and the place across and down.
    """
    width, height = size
    low, high = (math.log(limit) for limit in CROP_RATIO)
    for area, ratio, across, down in attempts.tolist():
        target = width * height * (scale[0] + (scale[1] - scale[0]) * area)
        shape = math.exp(low + (high - low) * ratio)
        box_w, box_h = round(math.sqrt(target * shape)), round(math.sqrt(target / shape))
        if 0 < box_w <= width and 0 < box_h <= height:
            left, top = int(across * (width - box_w + 1)), int(down * (height - box_h + 1))
            return left, top, left + box_w, top + box_h
    return _middle(width, height)


def _middle(width: int, height: int) -> Box:
    """Cut the largest box in the middle whose ratio is allowed."""
    box_w = min(width, round(height * CROP_RATIO[1]))
    box_h = min(height, round(width / CROP_RATIO[0]))
    left, top = (width - box_w) // 2, (height - box_h) // 2
    return left, top, left + box_w, top + box_h


def _cut(image: Image.Image, box: Box, look: Look, *, mirror: bool) -> Pixels:
    cut = image.resize((look.side, look.side), RESAMPLING[look.interpolation], box=box)
    return as_array(cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirror else cut)
