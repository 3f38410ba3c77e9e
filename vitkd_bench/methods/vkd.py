"""VkD: a projector with orthonormal columns, towards a normalised teacher (arXiv:2403.06213)."""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from vitkd_bench.contracts import Batch, CellFacts, Features, taps
from vitkd_bench.methods._feature_transfer import FeatureTransfer, TransferSettings, wider_student
from vitkd_bench.methods._precision import at_least_single
from vitkd_bench.methods._tokens import patches_after
from vitkd_bench.registry import METHODS


def vkd_loss(projected: Tensor, teacher: Tensor, *, target_norm: bool = True) -> Tensor:
    """Smooth L1 (beta 1) of the student's projected vectors (B, D) and the teacher's normalised ones (B, D).

    Mean over every element. `target_norm` brings each vector of the teacher to mean 0 and variance 1 over its
    channels (eps 1e-5, no learned scale), so that no scale or shift of a sample plays a part. The teacher is
    detached. Source: section 3; code roymiles/VkD engine.py:90-99.
    """
    guess, target = at_least_single(projected), at_least_single(teacher.detach())
    if target_norm:
        target = F.layer_norm(target, target.shape[-1:])
    return F.smooth_l1_loss(guess, target)


@METHODS.register(
    "vkd",
    title="Orthogonal projection (VkD)",
    kind="feature",
    paper="arXiv:2403.06213",
    needs=("parameters",),
    budget="weight: 6 trials of 0 and {.1, .3, 1, 3, 10}; target_norm: {true, false}",
)
class OrthogonalProjection(FeatureTransfer, nn.Module):
    """(1 - kd) label loss + kd KL + weight x the smooth L1 of pooled features.

    The student's pooled representation, which its head reads, passes a trained projector P without bias whose
    columns stay orthonormal (torch's `orthogonal` parametrisation; its raw weight is decayed, as published),
    so that the student's inner products reach the teacher's space unchanged. The target is the mean of the
    teacher's patch tokens after its last block, before its final norm. The student must not be the wider one.
    Published: label loss + KL + smooth L1, all of weight 1, which is twice `kd: 0.5, weight: 0.5`; the KL on
    a head of its own, of a student with a convolutional stem and an extra token, both absent here: published
    figures are not those of a plain ViT.
    """

    name = "vkd"

    class Config(TransferSettings):
        target_norm: bool = Field(default=True, description="normalise the teacher's pooled vectors")

    def __init__(self, config: Config, cell: CellFacts) -> None:
        """Draw the projector."""
        super().__init__(config, cell)
        linear = nn.Linear(cell.student.size.width, self.teacher_architecture.size.width, bias=False)
        self.projector = parametrizations.orthogonal(linear)

    @classmethod
    def refuses(cls, config: Config, cell: CellFacts) -> str | None:
        because = "vkd has no orthonormal columns longer than the teacher is wide"
        return super().refuses(config, cell) or wider_student(cell, because)

    @property
    def last(self) -> int:
        """Number of the teacher's last block."""
        return self.teacher_architecture.size.depth - 1

    def student_taps(self) -> frozenset[str]:
        return frozenset({taps.POOLED})

    def teacher_taps(self) -> frozenset[str]:
        return super().teacher_taps() | {taps.tokens(self.last)}

    def transferred(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        if student.pooled is None:
            raise TypeError("the student gave no pooled representation, which vkd projects")
        target = patches_after(teacher, self.last, self.teacher_architecture).mean(dim=1)
        return vkd_loss(self.projector(student.pooled), target, target_norm=self.config.target_norm)
