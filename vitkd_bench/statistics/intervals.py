"""Means with their interval, and paired differences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from scipy import special


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean of `n` values and where the true mean lies with confidence `level`; no bounds if n is 1.

    `sd` is the standard deviation of the values (n - 1 in the denominator), None if n is 1.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    level: float = 0.95
    sd: float | None = None

    @property
    def half_width(self) -> float | None:
        """Half of the interval's width; None without bounds."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2

    def scaled(self, factor: float) -> Interval:
        """Express the same in another unit, `factor` of it to one of this; the factor is positive."""
        low = None if self.low is None else self.low * factor
        high = None if self.high is None else self.high * factor
        sd = None if self.sd is None else self.sd * factor
        return Interval(self.mean * factor, low, high, self.n, self.level, sd)


@dataclass(frozen=True, slots=True)
class Delta:
    """A paired difference in percentage points: one value a seed, and their t interval.

    `unpaired` are the seeds that only one side has; they play no part.
    """

    interval: Interval
    by_seed: dict[int, float]
    unpaired: tuple[int, ...] = ()


def t_interval(values: Iterable[float], level: float = 0.95, step: float = 0.0) -> Interval:
    """Interval of a mean by Student's t, which holds its level even at two or three values.

    Args:
        values: at least one finite number, one a seed.
        level: confidence, in (0, 1).
        step: distance between neighbouring possible values (accuracies of n images come in steps of 1 / n).
            Values that agree only because they are coarse are no evidence of certainty, so the standard
            deviation is taken to be at least that of rounding, step / sqrt(12).

    Raises:
        ValueError: no values, one that is not finite, or a level outside (0, 1).
    """
    found = sorted(values)  # sorted: the order of seeds must not change the last bit of a sum
    if not found or not all(math.isfinite(value) for value in found):
        raise ValueError(f"an interval needs finite values, at least one; got {found}")
    if not 0 < level < 1:
        raise ValueError(f"level is a share between 0 and 1, got {level}")
    n, mean = len(found), math.fsum(found) / len(found)
    if n == 1:
        return Interval(mean, None, None, 1, level)
    variance = math.fsum((value - mean) ** 2 for value in found) / (n - 1)
    sd = max(math.sqrt(variance), step / math.sqrt(12))
    half = float(special.stdtrit(n - 1, (1 + level) / 2)) * sd / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n, level, sd)


def paired_delta(
    treated: Mapping[int, float],
    baseline: Mapping[int, float],
    level: float = 0.95,
    images: int | None = None,
) -> Delta | None:
    """Compare two accuracies seed by seed; None if they share no seed.

    Args:
        treated: accuracy by seed, a fraction in [0, 1].
        baseline: the same of what it is compared to.
        level: confidence of the interval.
        images: number of images that both were measured on, if they are the same in all; a difference then
            comes in steps of 1 / images, with the rounding of both sides in it.

    Returns:
        `treated - baseline` in percentage points.
    """
    seeds = sorted(treated.keys() & baseline.keys())
    if not seeds:
        return None
    by_seed = {seed: 100 * (treated[seed] - baseline[seed]) for seed in seeds}
    step = 100 * math.sqrt(2) / images if images else 0.0
    unpaired = tuple(sorted(treated.keys() ^ baseline.keys()))
    return Delta(t_interval(by_seed.values(), level, step), by_seed, unpaired)
