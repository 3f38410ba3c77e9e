"""Manifold distillation: match how patches relate within and across images (arXiv:2107.01378)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vitkd_bench.methods._feature_transfer import BlockSettings, BlockTransfer, Pairing
from vitkd_bench.methods._layers import Layers
from vitkd_bench.methods._precision import at_least_single
from vitkd_bench.registry import METHODS


def manifold_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    intra: float = 4.0,
    inter: float = 0.1,
    random: float = 0.2,
    samples: int = 192,
) -> Tensor:
    """Mean squared differences of cosines between patch tokens: student (B, P, D), teacher (B, P, E).

    `intra` weighs the cosines of the patches of one image (B of P x P), `inter` those of one place over the
    batch (P of B x B), `random` those of `samples` tokens drawn from the whole batch by torch's global
    generator (all of them where there are fewer). Each is a mean over every element; the diagonals, always 1,
    count. The teacher is detached. Source: code Hao840/manifold-distillation losses.py:108-146.

    Raises:
        ValueError: a batch of one, in which no image relates to another.
    """
    if len(student) < 2:
        raise ValueError(f"manifold_loss relates the images of a batch, and this batch has {len(student)}")
    sides = student, teacher.detach()
    ours, theirs = (F.normalize(at_least_single(side), dim=-1, eps=1e-6) for side in sides)
    drawn = torch.randperm(ours.shape[0] * ours.shape[1], device=ours.device)[:samples]
    with torch.autocast(ours.device.type, enabled=False):
        within = _difference(ours, theirs)
        across = _difference(ours.transpose(0, 1), theirs.transpose(0, 1))
        anywhere = _difference(ours.flatten(0, 1)[drawn], theirs.flatten(0, 1)[drawn])
    return intra * within + inter * across + random * anywhere


def _difference(student: Tensor, teacher: Tensor) -> Tensor:
    return F.mse_loss(student @ student.mT, teacher @ teacher.mT)


@METHODS.register(
    "manifold",
    title="Manifold of patches",
    kind="relation",
    paper="arXiv:2107.01378",
    needs=("grid", "batch"),
    budget="weight, common to intra 4, inter .1, random .2: 6 trials of 0 and {.1, .3, 1, 3, 10}; layers: "
    "{all, first:k, last:k}",
)
class Manifold(BlockTransfer):
    """(1 - kd) label loss + kd KL + weight x the mean over blocks of the three differences of cosines.

    Published: kd without labels (`kd: 1`), blocks 0 to 3 and 8 to 11 of 12 with 0 to 3 and 20 to 23 of 24
    (`layers: [0, 1, 2, 3, 8, 9, 10, 11]`, `pairing: ends`). The default takes all blocks, since that list
    means nothing at another depth, and no kd, so that a teacher needs no head. Widths may differ: cosines
    know none. Class token and registers are left out on both sides by name; the released code drops the
    student's first tokens by the difference in number, and fails where the teacher has more.
    """

    name = "manifold"

    class Config(BlockSettings):
        layers: Layers = Field(default="all", description="blocks of the student whose tokens are matched")
        pairing: Pairing = Field(
            default="ends",
            description="of blocks of unequal depths: by share of the depth, or from the nearer end",
        )
        intra: float = Field(default=4.0, ge=0, description="weight of cosines within an image")
        inter: float = Field(default=0.1, ge=0, description="weight of cosines at one place over the batch")
        random: float = Field(default=0.2, ge=0, description="weight of cosines between drawn tokens")
        samples: int = Field(default=192, gt=0, description="tokens drawn for the random part")

    def distance(self, student: Tensor, teacher: Tensor, block: int) -> Tensor:
        c = self.config
        return manifold_loss(
            student, teacher, intra=c.intra, inter=c.inter, random=c.random, samples=c.samples
        )
