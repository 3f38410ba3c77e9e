"""Accuracy by class: over all of them, and over those with many, some and few training images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vitkd_bench.report.gather import Gathered
from vitkd_bench.statistics import Delta, Interval, paired_delta, t_interval

GROUPS = ("head", "medium", "tail")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassGroups:
    """A row's accuracies by group of classes, means over the classes of a group, fractions.

    `accuracy` and `classes`, the number of classes, are by name of the group; one without classes is absent.
    `head_above` and `tail_below` are the numbers of training images that bound them. `per_class` is over all
    classes, `delta` its paired difference to the baseline in percentage points.
    """

    accuracy: dict[str, Interval]
    classes: dict[str, int]
    head_above: int
    tail_below: int
    per_class: Interval | None
    delta: Delta | None

    @property
    def bounds(self) -> str:
        """What the groups are."""
        return (
            f"head: classes with more than {self.head_above} training images; tail: with fewer than "
            f"{self.tail_below}; medium: those between"
        )


def class_groups(
    found: Gathered,
    runs: Mapping[int, str],
    baselines: Mapping[int, str],
    split: str,
    images: int | None,
) -> ClassGroups | None:
    """Gather what the finished runs of a cell have by group of classes; None where they have none.

    `images` is the number that all of them are measured on: no mean over classes is finer than a step of one.
    """
    above = found.by_seed(runs, split, "head_above")
    below = found.by_seed(runs, split, "tail_below")
    if not above or not below:
        return None
    by_group = {name: found.by_seed(runs, split, f"{name}_top1") for name in GROUPS}
    classes = {
        name: max(found.by_seed(runs, split, f"{name}_classes").values(), default=0) for name in GROUPS
    }
    own = found.by_seed(runs, split, "mean_per_class")
    return ClassGroups(
        accuracy={name: t_interval(values.values()) for name, values in by_group.items() if values},
        classes={name: int(number) for name, number in classes.items() if number},
        head_above=int(next(iter(above.values()))),
        tail_below=int(next(iter(below.values()))),
        per_class=t_interval(own.values()) if own else None,
        delta=paired_delta(own, found.by_seed(baselines, split, "mean_per_class"), images=images),
    )
