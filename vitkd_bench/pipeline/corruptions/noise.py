"""Noise in single values: Gaussian, shot and impulse.

Every value of every pixel has noise of its own, so nothing here is measured in pixels or scaled.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from vitkd_bench.pipeline.corruptions.pixels import Floats, Pixels, levels, normal, pixels, uniform

GAUSSIAN = (0.08, 0.12, 0.18, 0.26, 0.38)  # standard deviation, of values in [0, 1]
SHOT = (60, 25, 12, 5, 3)  # photons that full brightness stands for
IMPULSE = (0.03, 0.06, 0.09, 0.17, 0.27)  # share of values that become 0 or 255


def gaussian_noise(image: Pixels, key: int, severity: int) -> Pixels:
    """Add Gaussian noise, as in low light."""
    return pixels(levels(image) + normal(key, 0, *image.shape) * GAUSSIAN[severity - 1])


def shot_noise(image: Pixels, key: int, severity: int) -> Pixels:
    """Count photons: a value becomes a Poisson number whose mean is its brightness."""
    photons = SHOT[severity - 1]
    # a level and a share of 1 in one number: searched in the tables of all levels at once
    asked = image.ravel() + uniform(key, 0, image.size)
    found = np.searchsorted(_tables(photons).ravel(), asked, side="right").reshape(image.shape)
    return pixels((found - image.astype(np.int64) * _tables(photons).shape[1]) / photons)


def impulse_noise(image: Pixels, key: int, severity: int) -> Pixels:
    """Set single values to 0 or to 255, as many to the one as to the other."""
    share = IMPULSE[severity - 1]
    drawn = uniform(key, 0, *image.shape)
    changed = np.where(drawn < share / 2, np.uint8(0), image)
    return np.where((drawn >= share / 2) & (drawn < share), np.uint8(255), changed).astype(np.uint8)


@cache
def _tables(photons: int) -> Floats:
    """Give the Poisson distribution function of each grey level, the level added: (256, counts)."""
    counts = photons + 12 * math.ceil(math.sqrt(photons)) + 12  # beyond: less than 2**-53
    table = np.ones((256, counts))
    for level in range(256):
        mean = level * photons / 255
        chance = math.exp(-mean)
        total = 0.0
        for count in range(counts):
            total += chance
            table[level, count] = min(total, 1.0)
            chance *= mean / (count + 1)
    return table + np.arange(256)[:, None]
