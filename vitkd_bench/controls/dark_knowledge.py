"""What of the teacher's probabilities is more than a label: permuted, averaged, or left with their weight."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Generator, Tensor

from vitkd_bench.contracts import Batch, CellFacts, Control, Features, Method, Network, taps, unmet
from vitkd_bench.controls._draws import of_step
from vitkd_bench.registry import CONTROLS
from vitkd_bench.spec import Settings

BAN = "arXiv:1805.04770"


@CONTROLS.register(
    "dkpp",
    title="dark knowledge with permuted predictions",
    claim="that the teacher's probabilities tell which classes are alike",
    acts_on=("logits",),
    paper=BAN,
)
class PermutedPredictions(Control):
    """For each image anew, the probabilities of all classes but one are permuted among these classes."""

    class Config(Settings):
        kept: Literal["top", "label"] = Field(
            default="top", description="class that keeps its probability: the teacher's first, or the label"
        )

    @classmethod
    def refuses(cls, config: Config, method: Method, cell: CellFacts) -> str | None:
        return unmet("dkpp with kept: label", ["plain_labels"], cell) if config.kept == "label" else None

    def seen(self, teacher: Features, ids: Tensor, labels: Tensor | None = None, epoch: int = 0) -> Features:
        if labels is None or teacher.logits is None:
            return teacher
        logits = class_logits(teacher, self.cell)
        kept = labels if self.config.kept == "label" else logits.argmax(dim=1)
        generator = of_step(self.seed, ids, labels, epoch)
        return with_class_logits(teacher, self.cell, permuted_but(logits, kept, generator))


@CONTROLS.register(
    "cwtm",
    title="labels weighted by the teacher's confidence",
    claim="that the teacher gives more than a weight to each image",
    acts_on=("logits",),
    kinds=("logit",),
    needs=("batch",),
    paper=BAN,
)
class ConfidenceWeighted(Control):
    """The label loss alone, each image weighing as much as the teacher's largest probability for it.

    Settings of the method play no part; the recipe's label smoothing does.
    """

    def step(
        self, method: Method, student: Network, teacher: Features | None, batch: Batch
    ) -> dict[str, Tensor]:
        given = student(batch.pixels).logits
        if teacher is None or given is None:
            raise TypeError("cwtm weighs the loss of a student with a head by its teacher's logits")
        loss = cwtm_loss(
            given, class_logits(teacher, self.cell), batch.targets, smoothing=batch.label_smoothing
        )
        return {"labels": loss}


@CONTROLS.register(
    "virtual_teacher",
    title="soft labels without an image",
    claim="that the teacher's outputs say something of the image beyond its label",
    acts_on=("logits",),
    paper="after arXiv:1909.11723, our own control",
)
class VirtualTeacher(Control):
    """One soft label a class: the mean of the teacher's probabilities over the class's training images.

    That mean is taken once, of images without augmentation at temperature 1. `uniform` gives all classes the
    same probability, whatever the label. What the student sees are the logarithms, as logits.
    """

    class Config(Settings):
        soft_labels: Literal["class_mean", "uniform"] = Field(
            default="class_mean", description="the mean over each class's training images, or all alike"
        )

    @classmethod
    def refuses(cls, config: Config, method: Method, cell: CellFacts) -> str | None:
        alike = config.soft_labels == "uniform"
        return None if alike else unmet("virtual_teacher", ["plain_labels"], cell)

    def __init__(self, config: Any, cell: CellFacts, seed: int) -> None:
        """Start without soft labels; `fit` gathers them."""
        super().__init__(config, cell, seed)
        self.soft_labels: Tensor | None = None

    def fit(self, teacher: Network | None, batches: Iterable[Batch]) -> None:
        """Average the teacher's probabilities by class: (K, K), a row a class."""
        if self.config.soft_labels == "uniform":
            return
        if teacher is None:
            raise TypeError("virtual_teacher averages what a teacher says, and none was given")
        classes = len(self.cell.dataset.classes)
        total = torch.zeros(classes, classes, dtype=torch.float64)
        for batch in batches:
            with torch.no_grad():
                read = teacher(batch.for_teacher, frozenset({taps.LOGITS}))
            probabilities = class_logits(read, self.cell).double().softmax(dim=1).cpu()
            total.index_add_(0, batch.labels.cpu(), probabilities)
        teacher.clear()
        self.soft_labels = total / total.sum(dim=1, keepdim=True).clamp_min(1)

    def seen(self, teacher: Features, ids: Tensor, labels: Tensor | None = None, epoch: int = 0) -> Features:
        if labels is None or teacher.logits is None:
            return teacher
        own = class_logits(teacher, self.cell)
        if self.config.soft_labels == "uniform":
            return with_class_logits(teacher, self.cell, torch.zeros_like(own))
        if self.soft_labels is None:
            raise TypeError("virtual_teacher gathers its soft labels in `fit`, which was not called")
        rows = self.soft_labels.to(own)[labels]
        logs = rows.clamp_min(torch.finfo(own.dtype).tiny).log()
        return with_class_logits(teacher, self.cell, logs)


def cwtm_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy of logits (B, K) with `labels` in nats, a weighted mean over the batch.

    `labels` are class indices (B,) or shares of the classes (B, K). The weight of a sample is the largest of
    the teacher's probabilities for it, at temperature 1; weights are divided by their sum over the batch. The
    teacher is detached. Source: arXiv:1805.04770, section 3.2.
    """
    weights = teacher_logits.detach().softmax(dim=1).amax(dim=1)
    each = F.cross_entropy(student_logits, labels, reduction="none", label_smoothing=smoothing)
    return (weights / weights.sum() * each).sum()


def permuted_but(logits: Tensor, kept: Tensor, generator: Generator) -> Tensor:
    """Permute each row of logits (B, K) at random among the classes other than `kept` (B,)."""
    count, classes = logits.shape
    kept = kept.unsqueeze(1)
    keys = torch.rand(count, classes, generator=generator).to(logits.device).scatter(1, kept, -1.0)
    others = keys.argsort(dim=1)[:, 1:]
    places = torch.arange(classes - 1, device=logits.device).expand(count, -1)
    places = places + (places >= kept)
    return logits.scatter(1, places, logits.gather(1, others))


def class_logits(teacher: Features, cell: CellFacts) -> Tensor:
    """Give the teacher's logits of the data set's classes: (B, K)."""
    if teacher.logits is None or cell.teacher_classes is None:
        raise TypeError("this control changes the teacher's logits of every class, and they were not given")
    return teacher.logits[:, list(cell.teacher_classes)]


def with_class_logits(teacher: Features, cell: CellFacts, logits: Tensor) -> Features:
    """Put logits (B, K) of the data set's classes in the place of the teacher's own."""
    if teacher.logits is None or cell.teacher_classes is None:
        raise TypeError("this control changes the teacher's logits of every class, and they were not given")
    changed = teacher.logits.clone()
    changed[:, list(cell.teacher_classes)] = logits
    return replace(teacher, logits=changed)
