"""Intervals, paired tests, power, verdicts. Imports no torch."""

from vitkd_bench.statistics.intervals import Delta, Interval, paired_delta, t_interval
from vitkd_bench.statistics.power import smallest_detectable
from vitkd_bench.statistics.resampling import paired_bootstrap
from vitkd_bench.statistics.significance import holm, t_test
from vitkd_bench.statistics.verdicts import Verdict, verdict

__all__ = [
    "Delta",
    "Interval",
    "Verdict",
    "holm",
    "paired_bootstrap",
    "paired_delta",
    "smallest_detectable",
    "t_interval",
    "t_test",
    "verdict",
]
