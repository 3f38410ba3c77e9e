"""Blur: out of focus, frosted glass, motion, zoom. All lengths are in pixels of a 224 px image."""

from __future__ import annotations

import math

import numpy as np

from vitkd_bench.pipeline.corruptions.filters import disk, filtered, gaussian, smear, zoomed
from vitkd_bench.pipeline.corruptions.pixels import SIDE, Pixels, between, levels, pixels, scale_of, uniform

DEFOCUS = (3, 4, 6, 8, 10)  # radius
GLASS = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))  # sigma, how far, how often
MOTION = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))  # radius, sigma
ANGLE = 45  # degrees to either side of the horizontal
ZOOM = ((0.01, 12), (0.01, 16), (0.02, 11), (0.02, 13), (0.03, 11))  # step, number of steps from 1


def defocus_blur(image: Pixels, _key: int, severity: int) -> Pixels:
    """Spread each pixel over a disk, as a lens out of focus does."""
    kernel = disk(DEFOCUS[severity - 1] * scale_of(image))
    return pixels(filtered(levels(image), kernel, "reflect"))


def glass_blur(image: Pixels, key: int, severity: int) -> Pixels:
    """Look through frosted glass: blur, give each pixel the value of one nearby, blur again.

    The published code means to swap two pixels and, as it writes into the array that it reads, copies one
    to the other; so does this.
    """
    sigma, far, often = GLASS[severity - 1]
    scale, side = scale_of(image), image.shape[-1]
    places = list(range(side * side))
    for turn in range(often):
        _take_neighbours(places, key, turn, side, far)
    before = gaussian(levels(image), sigma * scale).reshape(len(image), -1)
    return pixels(gaussian(before[:, places].reshape(image.shape), sigma * scale))


def motion_blur(image: Pixels, key: int, severity: int) -> Pixels:
    """Draw each pixel out to one side, at an angle within 45 degrees of the horizontal."""
    radius, sigma = MOTION[severity - 1]
    kernel = smear(radius, sigma, between(key, 0, -ANGLE, ANGLE), scale_of(image))
    return pixels(filtered(levels(image), kernel, "edge"))


def zoom_blur(image: Pixels, _key: int, severity: int) -> Pixels:
    """Average the image and enlargements of it, as if the camera had moved towards it."""
    step, number = ZOOM[severity - 1]
    plain = levels(image)
    total = plain * 2  # itself, and its enlargement by 1
    for i in range(1, number):
        total += zoomed(plain, 1 + i * step)
    return pixels(total / (number + 1))


def _take_neighbours(places: list[int], key: int, turn: int, side: int, far: int) -> None:
    """Let each place (the margin excepted) take, from the last to the first, what stands in one nearby.

    In either direction that is -`far` to `far` - 1 pixels of a 224 px image away, each as likely.
    """
    scale = side / SIDE
    margin = math.ceil(far * scale)
    lines = np.arange(side - margin, margin, -1)
    drawn = (2 * uniform(key, turn, 2, len(lines), len(lines)) - 1) * far
    # whole numbers drawn at 224 px; at other sides what is nearest to their middles, scaled
    moves = np.floor(drawn * scale + (1 - scale) / 2).astype(np.int64).clip(-margin, margin - 1)
    own = lines[:, None] * side + lines[None, :]
    other = own + moves[0] * side + moves[1]
    for here, there in zip(own.ravel().tolist(), other.ravel().tolist(), strict=True):
        places[here] = places[there]
