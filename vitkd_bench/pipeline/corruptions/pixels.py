"""Pixels as corruptions compute with them, and the one length that all of theirs are measured in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitkd_bench.pipeline.draws import normals, uniforms

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]

SIDE = 224
"""The side, in pixels, of the images for which the parameters were published."""

_GRAIN = 2.0**20  # of a grey level: coarser than what machines differ by (about 1e-12), finer than any eye


def levels(image: Pixels) -> Floats:
    """Give pixels as numbers in [0, 1]."""
    return image.astype(np.float64) / 255


def pixels(values: Floats) -> Pixels:
    """Clip numbers to [0, 1] and round them to the nearest of 256 levels.

    They are rounded finely first. Machines differ in the last bits of a float, and a value that should lie
    half way between two levels would go up on one of them and down on another.
    """
    fine = np.rint(values * (255 * _GRAIN)) / _GRAIN
    return np.rint(fine).clip(0, 255).astype(np.uint8)


def scale_of(image: Pixels) -> float:
    """Say how many pixels of this image one pixel of a 224 px image is."""
    return int(image.shape[-1]) / SIDE


def uniform(key: int, stream: int, *shape: int) -> Floats:
    """Draw numbers in [0, 1); each `stream` (a small number) of a key is independent of the others."""
    count = int(np.prod(shape))
    return uniforms(key, np.array([stream], np.int64), count)[:, 0].reshape(shape)


def normal(key: int, stream: int, *shape: int) -> Floats:
    """Draw standard normal numbers."""
    count = int(np.prod(shape))
    drawn = normals(key, np.array([stream], np.int64), count)[0]
    return np.asarray(drawn, dtype=np.float64).reshape(shape)


def between(key: int, stream: int, low: float, high: float) -> float:
    """Draw one number in [low, high)."""
    return low + (high - low) * float(uniform(key, stream, 1)[0])


def resized(field: Floats, side: int) -> Floats:
    """Bring a field (224, 224) to the side of an image: bilinear, with averaging where it shrinks."""
    if side == len(field):
        return field
    picture = Image.fromarray(field.astype(np.float32))
    return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR), dtype=np.float64)
