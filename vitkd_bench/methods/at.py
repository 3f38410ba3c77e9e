"""Attention transfer of activations: match where channels are strong (arXiv:1612.03928)."""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vitkd_bench.methods._feature_transfer import BlockSettings, BlockTransfer, on_common_grid
from vitkd_bench.methods._precision import at_least_single
from vitkd_bench.registry import METHODS


def at_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of activation maps of patch tokens: student (B, P, D), teacher (B, Q, E).

    A map is the mean of squares over channels, made a vector of length one over the grid; the finer grid is
    averaged down to the coarser first. Mean over batch and places: the value is at most 2 / places. The
    teacher is detached. Source: section 3.1, in the reduction of the released code (szagoruyko
    attention-transfer utils.py:18-23); the paper writes half the sum of the distances themselves.
    """
    ours, theirs = on_common_grid(at_least_single(student), at_least_single(teacher.detach()))
    return F.mse_loss(_map(ours), _map(theirs))


def _map(patches: Tensor) -> Tensor:
    return F.normalize(patches.square().mean(dim=-1), dim=-1)


@METHODS.register(
    "at",
    title="Activation maps (attention transfer)",
    kind="feature",
    paper="arXiv:1612.03928",
    budget="weight: 6 trials of 0 and 1000 x {.1, .3, 1, 3, 10}; layers: {last:1, 4 even}",
)
class ActivationTransfer(BlockTransfer):
    """Label loss + weight x the sum over blocks of the activation maps' squared difference.

    The "attention" of this method is the size of activations, no softmax over keys (for that `attn_distill`).
    Widths and grids may differ; class token and registers are left out. No trained part. The weight 1000
    belongs to the mean over places of fine grids: the value falls as 1 / places. On a grid of 4 x 4 it starts
    with 6 to 20 times the gradient of the labels, on 14 x 14 or finer with less than once.
    """

    name = "at"
    over = "sum"

    class Config(BlockSettings):
        weight: float = Field(
            default=1000.0, ge=0, description="of the features' loss; the task loss weighs 1"
        )

    def distance(self, student: Tensor, teacher: Tensor, block: int) -> Tensor:
        return at_loss(student, teacher)
