"""What a method is told of the cell that it works in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vitkd_bench.spec import Architecture, ClassInfo, Head, Recipe, ResolvedDataset, Teacher


@dataclass(frozen=True, slots=True)
class CellFacts:
    """Student, data set and teacher of a cell. `teacher` is None for a method that reads none.

    `teacher_architecture` is the teacher's at the image size at which the cell uses it. `train_size` counts
    the training images; it is 0 while a suite is planned, before the data is opened.
    """

    student: Architecture
    dataset: ResolvedDataset
    teacher: Teacher | None = None
    teacher_architecture: Architecture | None = None
    recipe: Recipe | None = None
    train_size: int = 0

    @property
    def teacher_classes(self) -> tuple[int, ...] | None:
        """Index of each class among the teacher's logits; None if its head does not know them."""
        head = self.teacher.head if self.teacher else None
        return None if head is None else class_indices(head, self.dataset)


def class_indices(head: Head, dataset: ResolvedDataset) -> tuple[int, ...] | None:
    """Find each class of `dataset` among the logits of `head`; see `logits_of`."""
    return logits_of(head, dataset.classes, dataset.label_space)


def logits_of(head: Head, classes: Sequence[ClassInfo], label_space: str) -> tuple[int, ...] | None:
    """Find each of `classes`, all of `label_space`, among the logits of `head`; None where one is missing.

    Two classes must not fall on the same logit, and none on several.
    """
    if head.label_space == label_space:
        return tuple(range(len(classes)))
    found = [info.places(head.label_space) for info in classes]
    known = tuple(places[0] for places in found if len(places) == 1 and places[0] < head.num_classes)
    return known if len(set(known)) == len(found) else None
