"""DistilBERT: soft labels and the direction of the last tokens (Sanh et al., arXiv:1910.01108)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vitkd_bench.contracts import Batch, CellFacts, Features, Method, taps
from vitkd_bench.methods._feature_transfer import architecture_of_teacher
from vitkd_bench.methods._labels import label_loss_of
from vitkd_bench.methods._layers import Layers
from vitkd_bench.methods._logits import logits_of, teacher_logits
from vitkd_bench.methods._precision import in_full_precision
from vitkd_bench.methods._shared_tokens import common_tokens, keep, uncommon
from vitkd_bench.methods._vectors import block_pairs
from vitkd_bench.methods.kd import kd_loss
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import BadInputError, Settings


@in_full_precision
def distilbert_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """One minus the cosine of tokens (B, N, D) of equal width, in [0, 2]; mean over batch and tokens.

    The teacher is detached. A positive scale of its own for each token, and a rotation common to both sides,
    change nothing. A zero vector has cosine 0. Source: arXiv:1910.01108, section 3; huggingface/transformers
    distillation/distiller.py.
    """
    return (1 - F.cosine_similarity(student, teacher.detach(), dim=-1)).mean()


@METHODS.register(
    "distilbert",
    title="DistilBERT (soft labels and cosine of tokens)",
    kind="feature",
    paper="arXiv:1910.01108",
    needs=("logits", "width", "grid"),
    budget="weight: 6 trials of {0, .1, .3, 1, 3, 10}; layers: {last:1, all}",
)
class DistilBert(Method):
    """2 x labels + 5 T^2 KL to the teacher + weight x the mean over pairs of blocks of `distilbert_loss`.

    All tokens that both sides have, as they leave the block. The published student also starts from every
    second layer of its teacher; that is another factor, a method of kind weights, and no part of this one.
    """

    class Config(Settings):
        weight: float = Field(default=1.0, ge=0, description="of the cosine term")
        labels: float = Field(default=2.0, ge=0, description="weight of the label loss")
        logits: float = Field(default=5.0, ge=0, description="weight of the logits' term")
        temperature: float = Field(default=2.0, gt=0, description="divides both logits before the softmax")
        layers: Layers = Field(default="last:1", description="blocks whose tokens are compared")

    @classmethod
    def refuses(cls, config: Config, cell: CellFacts) -> str | None:
        try:
            block_pairs(config.layers, cell)
        except BadInputError as error:
            return str(error)
        return None

    @property
    def pairs(self) -> dict[int, int]:
        """Blocks of the student and those of the teacher that they are compared with."""
        return block_pairs(self.config.layers, self.cell)

    def teacher_taps(self) -> frozenset[str]:
        return frozenset({taps.LOGITS, *map(taps.tokens, self.pairs.values())})

    def student_taps(self) -> frozenset[str]:
        return frozenset(map(taps.tokens, self.pairs))

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        target = teacher_logits(teacher, self.cell)
        soft = kd_loss(logits_of(student), target, self.config.temperature)
        return {
            "labels": self.config.labels * label_loss_of(student, batch),
            "logits": self.config.logits * soft,
            "distilbert": self.config.weight * self._directions(student, teacher),
        }

    def _directions(self, student: Features, teacher: Features | None) -> Tensor:
        if teacher is None:
            raise TypeError("distilbert reads a teacher, and none was given")
        theirs = architecture_of_teacher(self.cell)
        ours = common_tokens(self.cell.student, theirs)
        other = common_tokens(theirs, self.cell.student)
        parts = [
            distilbert_loss(keep(student.tokens[i], ours, 1), keep(teacher.tokens[j], other, 1))
            for i, j in self.pairs.items()
        ]
        return torch.stack(parts).mean()

    def notes(self) -> tuple[str, ...]:
        return uncommon(self.cell.student, architecture_of_teacher(self.cell))
