"""Weather: snow, fog, brightness.

Fields are drawn for 224 px and resized to the image. Frost is left out: it is defined by six photographs of
the authors, which are not ours to ship, and a frost made by rule would be another corruption by that name.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitkd_bench.pipeline.corruptions.filters import at_lines, filtered, smear
from vitkd_bench.pipeline.corruptions.pixels import (
    SIDE,
    Floats,
    Pixels,
    between,
    levels,
    normal,
    pixels,
    resized,
    uniform,
)


@dataclass(frozen=True, slots=True)
class Snow:
    """How snow is made: noise of a mean and deviation, enlarged, cut from below, and blown to one side.

    `radius` and `sigma` are those of its motion; `kept` is the share of the image that is not whitened.
    """

    mean: float
    deviation: float
    enlarged: float
    cut: float
    radius: float
    sigma: float
    kept: float


SNOW = (
    Snow(0.1, 0.3, 3, 0.5, 10, 4, 0.8),
    Snow(0.2, 0.3, 2, 0.5, 12, 4, 0.7),
    Snow(0.55, 0.3, 4, 0.9, 12, 8, 0.7),
    Snow(0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
    Snow(0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
)
FALL = (-135, -45)  # degrees: from above, slanting to either side
FOG = ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))  # strength, decay
BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)  # added to the largest of a pixel's values, of [0, 1]

LUMA = np.array([0.299, 0.587, 0.114])
"""What red, green and blue give to grey (ITU-R BT.601)."""

_MAP = 256  # side of the fog's map: the next power of two


def snow(image: Pixels, key: int, severity: int) -> Pixels:
    """Whiten the image and let snow fall on it, once as drawn and once turned by 180 degrees."""
    rule = SNOW[severity - 1]
    plain = levels(image)
    grey = (plain * LUMA[:, None, None]).sum(0) if len(plain) == len(LUMA) else plain[0]
    white = np.maximum(plain, grey * 1.5 + 0.5)
    flakes = resized(_flakes(rule, key), image.shape[-1])
    return pixels(rule.kept * plain + (1 - rule.kept) * white + flakes + flakes[::-1, ::-1])


def fog(image: Pixels, key: int, severity: int) -> Pixels:
    """Lay a cloud over the image, and bring the sum back into range."""
    strength, decay = FOG[severity - 1]
    plain = levels(image)
    brightest = plain.max()
    cloud = resized(_cloud(key, decay)[:SIDE, :SIDE], image.shape[-1])
    return pixels((plain + strength * cloud) * (brightest / (brightest + strength)))


def brightness(image: Pixels, _key: int, severity: int) -> Pixels:
    """Raise the value of each pixel (of hue, saturation, value), the other two kept."""
    plain = levels(image)
    value = plain.max(0)
    raised = np.minimum(value + BRIGHTNESS[severity - 1], 1)
    return pixels(np.where(value > 0, plain * (raised / np.where(value > 0, value, 1)), raised))


def _flakes(rule: Snow, key: int) -> Floats:
    few = int(np.ceil(SIDE / rule.enlarged))
    drawn = rule.mean + rule.deviation * normal(key, 0, few, few)
    layer = at_lines(drawn, np.linspace(0, few - 1, SIDE))
    layer = np.where(layer < rule.cut, 0, layer.clip(0, 1))
    kernel = smear(rule.radius, rule.sigma, between(key, 1, *FALL), 1.0)
    return np.asarray(filtered(layer[None], kernel, "edge")[0])


def _cloud(key: int, decay: float) -> Floats:
    """Draw a fractal on a torus, (256, 256) in [0, 1], by diamonds and squares.

    A point half way between known ones is their mean and a number in [-a, a]; a falls by `decay` squared
    with each halving of the distance (Fournier, Fussell and Carpenter, CACM 1982).
    """
    field = np.zeros((_MAP, _MAP))
    step, reach, stream = _MAP, 1.0, 0
    while step > 1:
        half, count = step // 2, _MAP // step
        moves = reach * (2 * uniform(key, stream, 3, count, count) - 1)
        corner = field[::step, ::step].copy()
        right, below = np.roll(corner, -1, 1), np.roll(corner, -1, 0)
        centre = (corner + right + below + np.roll(right, -1, 0)) / 4 + moves[0]
        field[half::step, half::step] = centre
        field[::step, half::step] = (corner + right + centre + np.roll(centre, 1, 0)) / 4 + moves[1]
        field[half::step, ::step] = (corner + below + centre + np.roll(centre, 1, 1)) / 4 + moves[2]
        step, reach, stream = half, reach / decay**2, stream + 1
    field -= field.min()
    return np.asarray(field / field.max())
