"""What students are evaluated on: splits of their data set, and shift sets by the classes they share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitkd_bench.contracts import Examples
from vitkd_bench.engine.evaluation import labels_of, split_metrics
from vitkd_bench.measures import (
    ClassMap,
    answers_over_all,
    fidelity,
    groups,
    predictions,
    restricted,
    shifted,
)
from vitkd_bench.measures.groups import HEAD_ABOVE, TAIL_BELOW
from vitkd_bench.pipeline import Splits
from vitkd_bench.pipeline.splits import hash_of
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import ResolvedDataset
from vitkd_bench.spec.shift_map import map_classes


@dataclass(frozen=True, slots=True)
class OwnSplit:
    """A split of the data set that is trained on, or a shift of it.

    `train_counts` are the training images of each class where these make a long tail.
    """

    name: str
    examples: Examples
    train_counts: tuple[int, ...] = ()

    @property
    def scoring(self) -> dict[str, Any]:
        """What a record says of the rule: nothing, all classes are scored."""
        return {}

    def metrics(self, scores: Tensor, teacher: Tensor | None, clean: Clean | None) -> dict[str, float]:
        """Measure (N, K) log-probabilities; the teacher's are of the same samples and classes."""
        found = split_metrics(scores, self.examples, teacher)
        if not self.train_counts:
            return found
        return found | groups(scores, labels_of(self.examples), self.train_counts)

    def predictions(self, scores: Tensor) -> dict[str, np.ndarray]:
        """Pack what is kept of each sample."""
        return predictions(scores, labels_of(self.examples), self.examples.ids)


@dataclass(frozen=True, slots=True)
class ShiftSet:
    """Images of another set whose classes are some of those trained on; labels count through these."""

    name: str
    examples: Examples
    class_map: ClassMap
    pictures: tuple[str, ...]
    images: str
    left_out: dict[str, int]
    published: int | None = None

    def notes(self) -> Iterator[str]:
        """Say what of the set is not scored, and where it is not the one that was published."""
        if self.left_out["images"]:
            told = f"{self.left_out['images']} images of {self.left_out['classes']} classes"
            yield f"{self.name}: {told} that are not trained on are left out"
        if self.left_out["skipped"]:
            yield f"{self.name}: {self.left_out['skipped']} images are left out, as its setting skip says"
        there = len(self.examples) + self.left_out["images"] + self.left_out["skipped"]
        if self.published not in {None, there}:
            yield f"{self.name}: {there:,} images, published are {self.published:,}"

    @property
    def scoring(self) -> dict[str, Any]:
        """What a record says of the rule, of the classes, of the images, and of whose pictures these are."""
        told = {"pictures": list(self.pictures), "images": self.images, "left_out": self.left_out}
        return {**self.class_map.facts("test"), **told}

    def metrics(self, scores: Tensor, teacher: Tensor | None, clean: Clean | None) -> dict[str, float]:
        """Measure (N, K) log-probabilities of all training classes by both rules, beside the clean images."""
        if clean is None:
            raise TypeError(f"{self.name}: a shift set is measured against test, which was not evaluated")
        found = shifted(
            scores,
            labels_of(self.examples),
            self.class_map,
            clean_scores=clean.scores,
            clean_labels=clean.labels,
        )
        if teacher is None:
            return found
        return found | fidelity(restricted(scores, self.class_map), restricted(teacher, self.class_map))

    def predictions(self, scores: Tensor) -> dict[str, np.ndarray]:
        """Pack what is kept of each sample, over the set's own classes."""
        return predictions(
            restricted(scores, self.class_map),
            labels_of(self.examples),
            self.examples.ids,
            answers_over_all(scores, self.class_map),
        )


Evaluated = OwnSplit | ShiftSet


@dataclass(frozen=True, slots=True)
class Clean:
    """One student's scores (N, K) on test, and test's labels (N,)."""

    scores: Tensor
    labels: Tensor


def own_splits(splits: Splits, names: list[str]) -> Iterator[OwnSplit]:
    """Give the splits of the data set by the names that a plan gives them."""
    counts = long_tail(splits.train.labels, len(splits.dataset.classes))
    for name in names:
        yield OwnSplit(name, splits.split(name), counts if name in {"val", "test"} else ())


def shift_set(name: str, shift: ResolvedDataset, trained: ResolvedDataset, opened: Splits) -> ShiftSet:
    """Give the images of a shift set whose class is trained on; the others are left out."""
    places = map_classes(shift, trained)
    numbers = np.full(len(shift.classes), -1, dtype=np.int64)
    numbers[list(places)] = np.arange(len(places))
    labels = numbers[opened.test.labels]
    at = np.flatnonzero(labels >= 0)
    class_map = ClassMap(tuple(places.values()), len(trained.classes), shift.pool)
    examples = opened.test.taken(at, labels[at])
    left_out = {
        "classes": len(shift.classes) - len(places),
        "images": len(labels) - len(at),
        "skipped": opened.skipped,
    }
    images = hash_of({"test": (examples.ids, examples.labels)})
    published = None if "subset" in shift.settings else DATASETS.get(shift.name).facts.counts.get("test")
    return ShiftSet(name, examples, class_map, shift.pictures, images, left_out, published)


def long_tail(labels: np.ndarray, classes: int) -> tuple[int, ...]:
    """Count the training images of each class, where classes are of more than one group; else nothing."""
    counts = np.bincount(labels, minlength=classes)
    kinds = {(bool(n > HEAD_ABOVE), bool(n < TAIL_BELOW)) for n in counts.tolist()}
    return tuple(counts.tolist()) if len(kinds) > 1 else ()


def clean_scores(scores: Tensor, examples: Examples) -> Clean:
    """Keep a student's scores on test for the shift sets that come after it."""
    return Clean(scores, torch.tensor(examples.labels))
