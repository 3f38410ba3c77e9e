"""Contrastive representation distillation: tell the teacher's view of an image from those of others.

Tian, Krishnan and Isola, ICLR 2020, arXiv:1910.10699.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vitkd_bench.contracts import Batch, CellFacts, Features, Network
from vitkd_bench.methods._feature_transfer import TransferSettings
from vitkd_bench.methods._precision import in_full_precision
from vitkd_bench.methods._vectors import PooledTransfer, pooled_pair, unit
from vitkd_bench.registry import METHODS


@in_full_precision
def crd_loss(log_density: Tensor, train_size: int) -> Tensor:
    """Noise-contrastive loss of one direction, on log h (B, 1 + m), in nats, mean over the batch.

    h = exp(u . v / temperature) / Z; column 0 holds an image's own pair, the others m negatives drawn from
    `train_size` = n images. With c = m / n: minus the sum of ln h / (h + c) of the pair and of
    ln c / (h + c) of each negative. The method adds both directions, the student's embedding against the bank
    of the teacher's and the reverse; what is stored in banks has no gradient. Computed from log h, so that a
    low temperature cannot overflow. Source: arXiv:1910.10699, equation 18; HobbitLong/RepDistiller
    crd/criterion.py.
    """
    negatives = log_density.shape[1] - 1
    against = log_density - math.log(negatives / train_size)
    return (F.softplus(-against[:, 0]) + F.softplus(against[:, 1:]).sum(dim=1)).mean()


def other_classes(known: Tensor, labels: Tensor, count: int) -> Tensor:
    """Draw `count` training images for each of `labels` (B,), independently, none of that class: (B, count).

    `known` (n,) holds the class of each training image, -1 where it was not seen yet; those may be drawn.

    Raises:
        ValueError: for one of the labels there is no such image.
    """
    order = known.argsort()
    ranked = known[order]
    first = torch.searchsorted(ranked, labels).unsqueeze(1)
    of_class = torch.searchsorted(ranked, labels, right=True).unsqueeze(1) - first
    others = len(known) - of_class
    if bool((others == 0).any()):
        raise ValueError("crd contrasts classes, and all training images are of one class")
    draws = torch.rand(len(labels), count, dtype=torch.float64, device=known.device)
    ranks = (draws * others).long()
    return order[torch.where(ranks >= first, ranks + of_class, ranks)]


def _noise(images: int, width: int) -> Tensor:
    """Uniform noise (n, E), of expected squared length 1."""
    bound = math.sqrt(3 / width)
    return torch.empty(images, width).uniform_(-bound, bound)


@METHODS.register(
    "crd",
    title="Contrastive representation distillation",
    kind="relation",
    paper="arXiv:1910.10699",
    needs=("memory", "parameters", "plain_labels", "one_view"),
    budget="weight: 6 trials of .8 x {0, .1, .3, 1, 3, 10}; temperature: {.05, .07, .1}",
)
class ContrastiveRepresentation(PooledTransfer, nn.Module):
    """Label loss + weight x `crd_loss` in both directions, on pooled representations.

    A linear map a side to unit vectors, both trained; a bank a side of one such vector for each training
    image, moved half-way to the new one after each step and brought to length 1. As released: banks start as
    noise, and Z is fixed by the first batch. Negatives are drawn independently, as the bound assumes (the
    released loader repeats none where there are enough), from images of other classes; an image not yet
    seen has noise in the bank and counts as another. A batch needs no second image: negatives are the bank's.
    The weight was tuned for CNNs on CIFAR-100 in 240 epochs (RepDistiller): on digits in 5 (one seed) it was
    below no teacher at all, a tenth of it not. Search it.

    Both banks take 8 x `width` bytes an image; scores, in either direction, 4 bytes for each pair of an image
    of the batch and one of the training set.
    """

    name = "crd"

    floors = {"crd": "open"}

    class Config(TransferSettings):
        weight: float = Field(default=0.8, ge=0, description="of both directions; the task loss weighs 1")
        temperature: float = Field(default=0.07, gt=0, description="divides cosines before the exponential")
        negatives: int = Field(
            default=16384, gt=0, description="images contrasted with each image of a batch"
        )
        width: int = Field(default=128, gt=0, description="of the embeddings that are compared")
        momentum: float = Field(default=0.5, ge=0, lt=1, description="share of the old vector in a bank")

    student_bank: Tensor
    teacher_bank: Tensor
    known: Tensor
    log_normalisers: Tensor

    def __init__(self, config: Config, cell: CellFacts) -> None:
        """Draw embeddings and banks."""
        super().__init__(config, cell)
        self.embed_student = nn.Linear(cell.student.size.width, config.width)
        self.embed_teacher = nn.Linear(self.teacher_architecture.size.width, config.width)
        self.register_buffer("student_bank", _noise(cell.train_size, config.width))
        self.register_buffer("teacher_bank", _noise(cell.train_size, config.width))
        self.register_buffer("known", torch.full((cell.train_size,), -1))
        self.register_buffer("log_normalisers", torch.full((2,), math.nan))
        self._fresh: list[tuple[Tensor, Tensor, Tensor]] = []

    @classmethod
    def refuses(cls, config: Config, cell: CellFacts) -> str | None:
        if len(cell.dataset.classes) < 2:
            return f"crd contrasts classes, and data set {cell.dataset.name} has one"
        return super().refuses(config, cell)

    def transferred(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        ours, theirs = pooled_pair(student, teacher)
        ids = batch.ids.to(ours.device)
        embedded = unit(self.embed_student(ours).float()), unit(self.embed_teacher(theirs.detach()).float())
        self.known[ids] = batch.labels
        rows = torch.cat(
            [ids[:, None], other_classes(self.known, batch.labels, self.config.negatives)], dim=1
        )
        densities = self._log_densities(*embedded, rows)
        directions = torch.stack([crd_loss(density, len(self.known)) for density in densities])
        self._fresh.append((ids, embedded[0].detach(), embedded[1].detach()))
        return directions.sum()

    def _log_densities(self, student: Tensor, teacher: Tensor, rows: Tensor) -> list[Tensor]:
        """Give log h (B, 1 + m) of each side's embeddings with the other's bank, at the bank's `rows`."""
        with torch.autocast(student.device.type, enabled=False):
            scores = [
                (vectors @ bank.T).gather(1, rows) / self.config.temperature
                for vectors, bank in ((student, self.teacher_bank), (teacher, self.student_bank))
            ]
        if bool(self.log_normalisers.isnan().any()):
            self.log_normalisers.copy_(torch.stack([self._log_normaliser(each) for each in scores]))
        return [each - log_z for each, log_z in zip(scores, self.log_normalisers, strict=True)]

    def _log_normaliser(self, scores: Tensor) -> Tensor:
        mean = scores.detach().logsumexp(dim=(0, 1)) - math.log(scores.numel())
        return mean + math.log(len(self.known))

    @torch.no_grad()
    def after_step(self, student: Network, progress: float) -> None:
        """Move the banks; not before, as the backward pass reads them."""
        for ids, ours, theirs in self._fresh:
            for bank, vectors in ((self.student_bank, ours), (self.teacher_bank, theirs)):
                bank[ids] = unit(bank[ids].lerp(vectors, 1 - self.config.momentum))
        self._fresh.clear()
