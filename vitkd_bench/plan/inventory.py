"""What is at hand on this machine, gathered by the caller so that planning stays pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vitkd_bench.spec import ResolvedDataset, Source


@dataclass(frozen=True, slots=True)
class Inventory:
    """What is at hand of a suite.

    Data sets and shift sets by the suite's names, data sets that micro teachers are trained on, and weights
    by teacher.

    A text in place of a value is the sentence that says why the thing is not there.
    """

    datasets: Mapping[str, ResolvedDataset | str]
    training: Mapping[str, ResolvedDataset | str] = field(default_factory=dict)
    weights: Mapping[str, Source | str] = field(default_factory=dict)
    shift_sets: Mapping[str, ResolvedDataset | str] = field(default_factory=dict)
