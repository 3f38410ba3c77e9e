"""Self-distillation over prototypes: the head of DINO, its two ways of centring, its loss, and KoLeo."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vitkd_bench.methods._heads import projection_head
from vitkd_bench.spec import Settings


class PrototypeSettings(Settings):
    """Settings of self-distillation by prototypes, in DINO, iBOT and DINOv2."""

    prototypes: int = Field(default=256, gt=1, description="vectors that an image or patch is assigned to")
    hidden: int = Field(default=128, gt=0, description="width of a head's hidden layers")
    bottleneck: int = Field(default=48, gt=0, description="width of the unit vector before the prototypes")
    student_temperature: float = Field(default=0.1, gt=0, description="of the student's softmax")
    teacher_temperature: float = Field(
        default=0.06, gt=0, description="of the teacher's: lower, hence sharper"
    )
    momentum: float = Field(default=0.98, ge=0, lt=1, description="of the average at the start; ends at 1")


class PrototypeHead(nn.Module):
    """An MLP to a unit vector, then its cosine with each of `prototypes` unit vectors (dino `DINOHead`).

    (R, D) to (R, K). Two hidden layers of width `hidden`; standardised over the batch (an option of the
    published head), without which a few hundred steps end where they began.
    """

    def __init__(self, width: int, hidden: int, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        self.mlp = projection_head(width, hidden, hidden, bottleneck)
        self.prototypes = nn.Parameter(torch.randn(prototypes, bottleneck))

    def forward(self, features: Tensor) -> Tensor:
        """Give cosines in [-1, 1]."""
        return F.linear(F.normalize(self.mlp(features), dim=-1), F.normalize(self.prototypes, dim=-1))


def prototype_loss(student: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of softmax(student / temperature) with `target` probabilities, both (R, K), in nats.

    Summed over prototypes, mean over rows; the target is detached (dino `main_dino.py`, `DINOLoss`).
    """
    return -(target.detach() * F.log_softmax(student / temperature, dim=-1)).sum(dim=-1).mean()


def sharpened(teacher: Tensor, centre: Tensor, temperature: float) -> Tensor:
    """Turn the teacher's scores (R, K) into probabilities: minus the centre (K,), over a low temperature."""
    return F.softmax((teacher - centre) / temperature, dim=-1)


@torch.no_grad()
def sinkhorn_knopp(teacher: Tensor, temperature: float, iterations: int = 3) -> Tensor:
    """Turn the teacher's scores (R, K) into probabilities under which all prototypes are used alike.

    Rows of the result sum to 1, columns to about R / K (dinov2 `dino_clstoken_loss.py`, 3 iterations).
    """
    shifted = (teacher - teacher.max()) / temperature
    weights = shifted.exp()
    rows, prototypes = weights.shape
    weights = weights / weights.sum()
    for _ in range(iterations):
        weights = weights / weights.sum(dim=0, keepdim=True).clamp_min(1e-12) / prototypes
        weights = weights / weights.sum(dim=1, keepdim=True).clamp_min(1e-12) / rows
    return weights * rows


def koleo_loss(features: Tensor, floor: float = 1e-8) -> Tensor:
    """Spread features (B, D), B of at least 2: minus the mean log distance to the nearest on the sphere.

    Source: Sablayrolles et al., arXiv:1806.03198; dinov2 `koleo_loss.py`. Distances are L2, in units of the
    radius.
    """
    unit = F.normalize(features, dim=-1)
    similar = unit.detach() @ unit.detach().T
    nearest = similar.fill_diagonal_(-2.0).argmax(dim=1)
    distances = F.pairwise_distance(unit, unit[nearest], eps=floor)
    return -(distances + floor).log().mean()
