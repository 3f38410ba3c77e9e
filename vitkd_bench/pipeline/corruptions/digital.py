"""Digital changes: contrast, elastic stretching, coarse pixels, JPEG."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from PIL import Image
from scipy import ndimage

from vitkd_bench.pipeline.corruptions.pixels import (
    SIDE,
    Floats,
    Pixels,
    levels,
    pixels,
    resized,
    scale_of,
    uniform,
)

CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)  # what is left of a value's distance to its channel's mean
ELASTIC = ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02))
"""Strength and smoothness of the displacements, and how far the corners move, each in units of 244 px (the
published code has 244 where 224 was meant, and says so)."""
UNIT = 244.0
PIXELATE = (0.6, 0.5, 0.4, 0.3, 0.25)  # side of the small image, of that of the large one
JPEG = (25, 18, 15, 10, 7)  # quality


def contrast(image: Pixels, _key: int, severity: int) -> Pixels:
    """Draw the values of each channel towards its mean."""
    mean = image.sum((1, 2), dtype=np.int64) / (image[0].size * 255)
    mean = mean[:, None, None]
    return pixels(mean + (levels(image) - mean) * CONTRAST[severity - 1])


def elastic_transform(image: Pixels, key: int, severity: int) -> Pixels:
    """Move three points of the image, and then each pixel by a smooth random field.

    Severities 1 and 2 move the whole image far, 3 to 5 tear at its texture.
    """
    strength, smooth, corners = (part * UNIT for part in ELASTIC[severity - 1])
    side, scale = image.shape[-1], scale_of(image)
    tilted = _read(levels(image), _tilt(key, side, corners * scale), "mirror")
    smoothing = _smoothing(smooth)
    field = 2 * uniform(key, 1, 2, SIDE, SIDE) - 1
    moves = [resized(smoothing @ part @ smoothing.T, side) * (strength * scale) for part in field]
    return pixels(_read(tilted, np.mgrid[:side, :side] + np.stack(moves), "reflect"))


def pixelate(image: Pixels, _key: int, severity: int) -> Pixels:
    """Shrink the image and enlarge it again, both by the mean of areas."""
    side = image.shape[-1]
    few = max(1, int(side * PIXELATE[severity - 1]))
    box = Image.Resampling.BOX
    small = [Image.fromarray(plane).resize((few, few), box) for plane in image]
    return np.stack([np.asarray(plane.resize((side, side), box)) for plane in small])


def jpeg_compression(image: Pixels, _key: int, severity: int) -> Pixels:
    """Write the image as a JPEG file of low quality, and read that."""
    file = io.BytesIO()
    _picture(image).save(file, "JPEG", quality=JPEG[severity - 1])
    with Image.open(file) as read:
        found = np.asarray(read)
    return np.ascontiguousarray(found.transpose(2, 0, 1) if found.ndim == 3 else found[None])


def _picture(image: Pixels) -> Image.Image:
    return Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))


def _tilt(key: int, side: int, far: float) -> Floats:
    """Say where each pixel (2, S, S) of the moved image comes from: three points move by up to `far`."""
    middle, arm = side // 2, max(side // 3, 1)
    before = middle + arm * np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    after = before + far * (2 * uniform(key, 0, 3, 2) - 1)
    ones = np.ones((3, 1))
    back = np.linalg.solve(np.hstack([after, ones]), before)  # from the moved image to the given one
    rows, columns = np.mgrid[:side, :side].astype(np.float64)
    return np.stack([rows * back[0, i] + columns * back[1, i] + back[2, i] for i in (0, 1)])


def _read(planes: Floats, places: Floats, edges: str) -> Floats:
    return np.stack([ndimage.map_coordinates(plane, places, order=1, mode=edges) for plane in planes])


@cache
def _smoothing(sigma: float) -> Floats:
    """Give the Gaussian of `sigma` pixels, cut at 3 of them, as a matrix (224, 224): it may be very wide."""
    return np.asarray(ndimage.gaussian_filter1d(np.eye(SIDE), sigma, axis=0, mode="reflect", truncate=3.0))
