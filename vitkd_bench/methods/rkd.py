"""Relational knowledge distillation: distances and angles between images (Park et al., arXiv:1904.05068)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vitkd_bench.contracts import Batch, Features
from vitkd_bench.methods._feature_transfer import TransferSettings
from vitkd_bench.methods._precision import in_full_precision
from vitkd_bench.methods._vectors import PooledTransfer, at_least_two, pooled_pair, unit
from vitkd_bench.registry import METHODS


@in_full_precision
def rkd_distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth L1 between the distances of images, on vectors (B, D_s) and (B, D_t); widths may differ.

    L2 distances, divided on each side by their mean over pairs that do not coincide, hence without a unit;
    mean over all B^2 ordered pairs, those of an image with itself included. The teacher is detached. A
    translation, rotation or positive scaling of either side changes nothing. Source: arXiv:1904.05068,
    section 3.2.1; reductions of HobbitLong/RepDistiller distiller_zoo/RKD.py.

    Raises:
        ValueError: a batch of one.
    """
    at_least_two(student, "rkd")
    apart = F.smooth_l1_loss(_distances(student), _distances(teacher.detach()), reduction="sum")
    return 2 * apart / len(student) ** 2  # each pair was counted once


@in_full_precision
def rkd_angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth L1 between the angles of images, on vectors (B, D_s) and (B, D_t); widths may differ.

    Per triple (i, j, k) the cosine at i between j and k, 0 where i coincides with one of them; mean over all
    B^3 triples. The teacher is detached. A translation, rotation or positive scaling of either side changes
    nothing. Memory grows with B^3 and B^2 D. Source: arXiv:1904.05068, section 3.2.2; reductions of
    HobbitLong/RepDistiller distiller_zoo/RKD.py.

    Raises:
        ValueError: a batch of one.
    """
    at_least_two(student, "rkd")
    return F.smooth_l1_loss(_cosines(student), _cosines(teacher.detach()))


def rkd_loss(
    student: Tensor,
    teacher: Tensor,
    distance: float = 25.0,
    angle: float = 50.0,
    angle_samples: int | None = None,
) -> Tensor:
    """Sum of `distance` x `rkd_distance_loss` and `angle` x `rkd_angle_loss`, of (B, D_s) and (B, D_t).

    Angles are those of the batch's first `angle_samples` images (None: all). A term of weight 0 is not
    computed. The teacher is detached. Source: arXiv:1904.05068; 25 and 50 are RepDistiller's weights for
    classification.

    Raises:
        ValueError: a batch of one.
    """
    at_least_two(student, "rkd")
    total = torch.zeros((), device=student.device)
    if distance:
        total = total + distance * rkd_distance_loss(student, teacher)
    if angle:
        total = total + angle * rkd_angle_loss(student[:angle_samples], teacher[:angle_samples])
    return total


def _distances(vectors: Tensor) -> Tensor:
    """L2 distances of the B (B - 1) / 2 pairs, over their mean."""
    apart = F.pdist(vectors)
    several = (apart > 0).sum().clamp_min(1)
    mean = apart.sum() / several
    return apart / mean.masked_fill(mean == 0, 1)


def _cosines(vectors: Tensor) -> Tensor:
    towards = unit(vectors.unsqueeze(0) - vectors.unsqueeze(1))
    return towards @ towards.mT


@METHODS.register(
    "rkd",
    title="Relational knowledge distillation",
    kind="relation",
    paper="arXiv:1904.05068",
    needs=("batch",),
    budget="weight: 6 trials of {0, .1, .3, 1, 3, 10}; 3 of distance only, angle only, both",
)
class RelationalKnowledge(PooledTransfer):
    """Label loss + weight x (25 distance loss + 50 angle loss) of the pooled representations.

    Angles cost memory by the cube of the batch (67 MB at 256, 4.3 GB at 1024), so of a larger batch its first
    `angle_samples` are compared, which the shuffled order makes a random choice. The released code clamps
    squared distances at 1e-12 and so counts coinciding images as apart; here they are not.
    """

    name = "rkd"

    class Config(TransferSettings):
        distance: float = Field(
            default=25.0, ge=0, description="weight of the distance term; 0 leaves it out"
        )
        angle: float = Field(default=50.0, ge=0, description="weight of the angle term; 0 leaves it out")
        angle_samples: int = Field(
            default=256, ge=3, description="images of a batch whose triples are compared, at most"
        )

    def transferred(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        config = self.config
        vectors = pooled_pair(student, teacher)
        return rkd_loss(*vectors, config.distance, config.angle, config.angle_samples)
