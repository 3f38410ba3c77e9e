"""The four that the authors held back for validation: speckle noise, Gaussian blur, spatter, saturation."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from vitkd_bench.pipeline.corruptions.filters import gaussian
from vitkd_bench.pipeline.corruptions.pixels import (
    SIDE,
    Floats,
    Pixels,
    levels,
    normal,
    pixels,
    resized,
    scale_of,
)
from vitkd_bench.pipeline.corruptions.weather import LUMA

SPECKLE = (0.15, 0.2, 0.35, 0.45, 0.6)  # standard deviation, of the value that it changes
GAUSSIAN = (1, 2, 3, 4, 6)  # sigma, in pixels of a 224 px image
WATER = ((0.65, 0.3, 4, 0.69, 0.6), (0.65, 0.3, 3, 0.68, 0.6), (0.65, 0.3, 2, 0.68, 0.5))
MUD = ((0.65, 0.3, 1, 0.65, 1.5), (0.67, 0.4, 1, 0.65, 1.5))
"""Spatter: mean and deviation of noise, sigma of its blur, from where it is wet, and how strong the water is,
or the sigma with which mud spreads. Severities 1 to 3 are water, 4 and 5 mud."""
TURQUOISE = np.array([175.0, 238.0, 238.0]) / 255
BROWN = np.array([63.0, 42.0, 20.0]) / 255
OPAQUE = 0.8  # mud that is thinner is not there
SATURATE = ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))  # factor and addend of the saturation

_DEEP = 20.0  # pixels from a drop's edge, beyond which water is flat
_EMBOSS = np.array([[-2.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [0.0, 1.0, 2.0]])


def speckle_noise(image: Pixels, key: int, severity: int) -> Pixels:
    """Add Gaussian noise in proportion to the value."""
    plain = levels(image)
    return pixels(plain + plain * normal(key, 0, *image.shape) * SPECKLE[severity - 1])


def gaussian_blur(image: Pixels, _key: int, severity: int) -> Pixels:
    """Blur by a Gaussian."""
    return pixels(gaussian(levels(image), GAUSSIAN[severity - 1] * scale_of(image)))


def spatter(image: Pixels, key: int, severity: int) -> Pixels:
    """Put drops of water (1 to 3) or splashes of mud (4, 5) on the lens."""
    side = image.shape[-1]
    plain = levels(image)
    if severity <= len(WATER):
        return pixels(plain + _colour(TURQUOISE, image) * resized(_water(key, severity), side))
    cover = resized(_mud(key, severity - len(WATER)), side)
    return pixels(plain * (1 - cover) + _colour(BROWN, image) * cover)


def saturate(image: Pixels, _key: int, severity: int) -> Pixels:
    """Make colours paler (1, 2) or stronger (3 to 5), hue and value kept. Grey has the hue of red."""
    factor, addend = SATURATE[severity - 1]
    plain = levels(image)
    value = plain.max(0)
    spread = value - plain.min(0)
    share = spread / np.where(value > 0, value, 1)
    wanted = np.clip(share * factor + addend, 0, 1)
    # how far each channel lies below the value, as a share of the spread
    below = np.where(spread > 0, (value - plain) / np.where(spread > 0, spread, 1), _red(plain))
    return pixels(value * (1 - wanted * below))


def _red(plain: Floats) -> Floats:
    return np.array([0.0, 1.0, 1.0])[:, None, None] * np.ones_like(plain)


def _colour(colour: Floats, image: Pixels) -> Floats:
    shown = colour if len(image) == len(colour) else np.array([(colour * LUMA).sum()])
    return np.asarray(shown)[:, None, None]


def _wet(rule: tuple[float, ...], key: int) -> Floats:
    mean, deviation, sigma, _least, _last = rule
    return gaussian(mean + deviation * normal(key, 0, SIDE, SIDE), sigma)


def _mud(key: int, level: int) -> Floats:
    rule = MUD[level - 1]
    cover = gaussian((_wet(rule, key) > rule[3]).astype(np.float64), rule[4])
    return np.where(cover < OPAQUE, 0, cover)


def _water(key: int, severity: int) -> Floats:
    """Light drops by their relief: the distance from a drop's edge, evened out and embossed.

    The published code finds edges by Canny's method; here they are the drops' outermost pixels.
    """
    rule = WATER[severity - 1]
    layer = _wet(rule, key)
    drops = layer >= rule[3]
    edges = drops & ~ndimage.binary_erosion(drops)
    if not edges.any():
        return np.zeros_like(layer)
    relief = np.minimum(ndimage.distance_transform_edt(~edges), _DEEP)
    relief = _evened(ndimage.uniform_filter(relief, 3, mode="mirror"))
    relief = ndimage.correlate(relief, _EMBOSS, mode="mirror").clip(0, 255)
    light = np.where(drops, layer, 0) * ndimage.uniform_filter(relief, 3, mode="mirror")
    return np.asarray(light * (rule[4] / max(float(light.max()), 1e-12)))


def _evened(field: Floats) -> Floats:
    """Spread whole-numbered levels so that each is as frequent as the next: [0, 255]."""
    whole = np.floor(field + 1e-9).astype(np.int64)
    reached = np.bincount(whole.ravel()).cumsum()
    lowest = reached[whole.min()]
    return np.asarray(np.rint((reached[whole] - lowest) * 255 / max(whole.size - lowest, 1)))
