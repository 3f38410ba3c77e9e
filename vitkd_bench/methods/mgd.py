"""Masked generative distillation: guess the teacher's tokens from part of one's own (arXiv:2205.01529)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vitkd_bench.contracts import CellFacts
from vitkd_bench.methods._feature_transfer import BlockSettings, BlockTransfer
from vitkd_bench.methods._generation import aligned, convolutions
from vitkd_bench.methods._precision import in_full_precision
from vitkd_bench.methods._tokens import as_grid
from vitkd_bench.registry import METHODS


@in_full_precision
def mgd_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared error of what is generated from the student (B, D, H, W) and the teacher's map of that shape.

    Mean over every element; the teacher is detached. The released code sums over all but the batch, so that
    its weight depends on D x H x W. Source: arXiv:2205.01529, equation 4; yzd-v/cls_KD
    mmcls/models/dis_losses/mgd.py.
    """
    return F.mse_loss(student, teacher.detach())


def masked(grid: Tensor, share: float, what: Literal["channels", "patches"]) -> Tensor:
    """Set a random `share` of the channels, or of the patches, of each map (B, D, H, W) to zero."""
    images, channels, height, width = grid.shape
    shape = (images, channels, 1, 1) if what == "channels" else (images, 1, height, width)
    return grid * (torch.rand(shape, device=grid.device) >= share)


@METHODS.register(
    "mgd",
    title="Masked generative distillation",
    kind="feature",
    paper="arXiv:2205.01529",
    needs=("grid", "parameters"),
    budget="weight: 6 trials of 1.76 x {0, .1, .3, 1, 3, 10}; share: {.15, .5, .75}",
)
class MaskedGenerative(BlockTransfer, nn.Module):
    """Label loss + weight x the mean over pairs of blocks of `mgd_loss` on patch tokens.

    The student's tokens are brought to the teacher's width by a linear map where widths differ, a share of
    channels is set to zero, and two 3 x 3 convolutions with a ReLU between them guess the teacher's tokens.
    The paper masks positions; its code for classification masks channels, with .15 and a weight of 7e-5 on a
    sum over 512 x 7 x 7 values, which is 1.76 on their mean.
    """

    name = "mgd"

    class Config(BlockSettings):
        weight: float = Field(default=1.76, ge=0, description="of the features' loss; the task loss weighs 1")
        share: float = Field(default=0.15, ge=0, lt=1, description="of the channels or patches set to zero")
        masked: Literal["channels", "patches"] = Field(default="channels", description="what is set to zero")

    def __init__(self, config: Config, cell: CellFacts) -> None:
        """Draw one generator for each block, with the map to the teacher's width before it."""
        super().__init__(config, cell)
        widths = cell.student.size.width, self.teacher_architecture.size.width
        self.align = nn.ModuleDict({str(i): aligned(*widths) for i in self.pairs})
        self.generators = nn.ModuleDict({str(i): convolutions(widths[1]) for i in self.pairs})

    def distance(self, student: Tensor, teacher: Tensor, block: int) -> Tensor:
        grid = as_grid(self.align[str(block)](student))
        kept = masked(grid, self.config.share, self.config.masked)
        return mgd_loss(self.generators[str(block)](kept), as_grid(teacher))
