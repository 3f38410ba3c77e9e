"""The baseline of every comparison: the same student, data, recipe and seed without a teacher."""

from __future__ import annotations

from vitkd_bench.registry import METHODS
from vitkd_bench.spec import MethodUse, Run

BASELINE = "none"


def baseline_of(run: Run) -> Run:
    """Give the run of `none` to which a run's delta is taken; a run of `none` is its own."""
    if run.method.name == BASELINE:
        return run
    return run.with_method(MethodUse(name=BASELINE, version=METHODS.get(BASELINE).version))
