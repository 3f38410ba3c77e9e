"""From an interval to a word."""

from __future__ import annotations

from typing import Literal

from vitkd_bench.statistics.intervals import Interval

Verdict = Literal["transfers", "fails", "undecided"]


def verdict(interval: Interval) -> Verdict:
    """Say what the interval of a delta shows: above zero it transfers, below it fails, else undecided.

    An interval without bounds (one seed) decides nothing; one that touches zero does not exclude it.
    """
    if interval.low is not None and interval.low > 0:
        return "transfers"
    if interval.high is not None and interval.high < 0:
        return "fails"
    return "undecided"
