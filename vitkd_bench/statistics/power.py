"""What a number of seeds can show."""

from __future__ import annotations

import math

import numpy as np
from scipy import optimize, special


def smallest_detectable(n: int, sd: float, level: float = 0.95, power: float = 0.8) -> float | None:
    """Give the smallest true delta that n pairs show (interval excludes zero) with probability `power`.

    Args:
        n: number of pairs.
        sd: standard deviation of the paired differences; the result is in the same unit.
        level: confidence of the interval.
        power: probability with which it is to be seen.

    Returns:
        The delta, or None for fewer than two pairs, which show nothing.

    Raises:
        ValueError: a negative spread, or a level or power outside (0, 1).
    """
    if sd < 0 or not 0 < level < 1 or not 0 < power < 1:
        raise ValueError(f"needs sd >= 0, level and power in (0, 1); got {sd}, {level}, {power}")
    if n < 2:
        return None
    if level <= 1 - power:
        return 0.0
    limit = float(special.stdtrit(n - 1, (1 + level) / 2))

    # the noncentral t by quadrature over the observed spread: scipy's own gives NaN in the far tail
    quantiles = (np.arange(10_000) + 0.5) / 10_000
    bar = limit * np.sqrt(2 * special.gammaincinv((n - 1) / 2, quantiles) / (n - 1))

    def missing(shift: float) -> float:
        return float(np.mean(special.ndtr(shift - bar) + special.ndtr(-shift - bar))) - power

    # with two pairs the limit itself is 12.7, and the shift that is seen in 4 of 5 trials about 50
    shift = optimize.brentq(missing, 0.0, 10 * limit + 10, xtol=1e-10)
    return float(shift) * sd / math.sqrt(n)
