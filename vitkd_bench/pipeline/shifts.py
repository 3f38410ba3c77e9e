"""Shift splits: test images changed by a documented transform, the same on every machine.

What is drawn for an image depends on the shift's name and the image's id alone. All arithmetic is on
integers, or float64 without sums whose order a library may choose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from vitkd_bench.pipeline.corruptions import corrupt
from vitkd_bench.pipeline.decoded import Decoded
from vitkd_bench.pipeline.draws import normals, uniforms
from vitkd_bench.pipeline.streamed import Streamed
from vitkd_bench.spec.seeds import seeded

ANGLES = (15.0, 30.0)  # degrees, to either side
NOISE = 0.35  # standard deviation, of pixels in [0, 1]
BLUR = 0.12  # radius as a share of the image's side: 1 pixel of 8
CONTRAST = (0.3, 0.5)  # what is left of each pixel's distance to the image's mean

Pixels = NDArray[np.uint8]
_ONE = np.zeros(1, dtype=np.int64)


def shifted(examples: Decoded | Streamed, name: str) -> Decoded | Streamed:
    """Apply a shift (a key of `SHIFTS`, or one of `CORRUPTIONS`) to every image; labels and ids stay."""
    return examples.changed(_Change(name))


@dataclass(frozen=True, slots=True)
class _Change:
    name: str

    def __call__(self, pixels: Pixels, id_: str) -> Pixels:
        change = SHIFTS.get(self.name) or corrupt(self.name)
        return change(pixels, seeded(0, "shift", self.name, id_))


def rotate(image: Pixels, key: int) -> Pixels:
    """Turn by 15 to 30 degrees, to the left or to the right, about the centre; bicubic, black corners."""
    low, high = ANGLES
    size, side = uniforms(key, _ONE, 2)[:, 0]
    angle = float((low + (high - low) * size) * (1 if side < 0.5 else -1))
    return _by_channel(image, lambda plane: plane.rotate(angle, Image.Resampling.BICUBIC))


def noise(image: Pixels, key: int) -> Pixels:
    """Add Gaussian noise of standard deviation 0.35 (of the full range), independent in every value."""
    drawn = normals(key, _ONE, image.size).astype(np.float64).reshape(image.shape)
    return _pixels(image + drawn * (NOISE * 255))


def blur(image: Pixels, _key: int) -> Pixels:
    """Blur by a Gaussian with a radius of 0.12 of the image's side (PIL's, made of box filters)."""
    radius = BLUR * image.shape[-1]
    return _by_channel(image, lambda plane: plane.filter(ImageFilter.GaussianBlur(radius)))


def contrast(image: Pixels, key: int) -> Pixels:
    """Draw all values towards the image's mean, to 0.3 to 0.5 of their distance."""
    low, high = CONTRAST
    factor = low + (high - low) * uniforms(key, _ONE, 1)[0, 0]
    mean = int(image.sum(dtype=np.int64)) / image.size
    return _pixels(mean + (image - mean) * factor)


def invert(image: Pixels, _key: int) -> Pixels:
    """Swap dark and bright: a bright stroke on black becomes a dark one on white."""
    return np.uint8(255) - image


SHIFTS: dict[str, Callable[[Pixels, int], Pixels]] = {
    "rotate": rotate,
    "noise": noise,
    "blur": blur,
    "contrast": contrast,
    "invert": invert,
}


def _by_channel(image: Pixels, change: Callable[[Image.Image], Image.Image]) -> Pixels:
    return np.stack([np.asarray(change(Image.fromarray(plane))) for plane in image])


def _pixels(values: NDArray[np.float64]) -> Pixels:
    return np.rint(values).clip(0, 255).astype(np.uint8)
