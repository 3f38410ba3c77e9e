"""Tests of a difference, and what many of them at once come to."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import special

from vitkd_bench.statistics.intervals import Interval


def t_test(interval: Interval) -> float | None:
    """Give the two-sided p value of a mean against zero, by the t test that the interval inverts.

    None without a spread (one value). With two or three seeds it rests on the values being near normal.
    """
    if interval.sd is None:
        return None
    if interval.sd == 0:
        return 0.0 if interval.mean else 1.0
    t = interval.mean / (interval.sd / math.sqrt(interval.n))
    return float(2 * special.stdtr(interval.n - 1, -abs(t)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values of a family of tests by Holm's step-down rule, in their order.

    Rejecting what is below alpha then errs at all with probability alpha at most, however the tests depend on
    each other (Holm 1979).
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted
