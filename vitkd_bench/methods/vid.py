"""Variational information distillation: tokens as a Gaussian guess of the teacher's (arXiv:1904.05835)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vitkd_bench.contracts import CellFacts
from vitkd_bench.methods._feature_transfer import BlockSettings, BlockTransfer, on_common_grid
from vitkd_bench.methods._precision import in_full_precision
from vitkd_bench.registry import METHODS

FLOOR = 1e-5  # of a variance


@in_full_precision
def vid_loss(student: Tensor, teacher: Tensor, scale: Tensor) -> Tensor:
    """Negative log-likelihood of the teacher's features under a Gaussian, in nats less (ln 2 pi) / 2.

    `student` is the mean (..., D), `teacher` (..., D) what is observed, and softplus(`scale`) + 1e-5 the
    variance of each of the D channels. The mean over every element of (difference^2 / variance +
    ln variance) / 2; it can be negative. The teacher is detached. At a fixed variance it is the squared error
    over twice that variance, and a constant. Source: arXiv:1904.05835, equations 5 and 6;
    HobbitLong/RepDistiller distiller_zoo/VID.py.
    """
    variance = F.softplus(scale) + FLOOR
    return ((student - teacher.detach()).square() / variance + variance.log()).mean() / 2


class GaussianGuess(nn.Module):
    """The mean of the teacher's tokens given the student's, and a variance for each channel.

    Three linear layers without bias, ReLU between them, as wide as the teacher from the first on.
    """

    def __init__(self, student: int, teacher: int, variance: float) -> None:
        super().__init__()
        self.mean = nn.Sequential(
            nn.Linear(student, teacher, bias=False),
            nn.ReLU(),
            nn.Linear(teacher, teacher, bias=False),
            nn.ReLU(),
            nn.Linear(teacher, teacher, bias=False),
        )
        self.scale = nn.Parameter(torch.full((teacher,), math.log(math.expm1(variance - FLOOR))))

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Give the loss of tokens (B, P, D_s) against (B, P, D_t)."""
        return vid_loss(self.mean(student), teacher, self.scale)


@METHODS.register(
    "vid",
    title="Variational information distillation",
    kind="feature",
    paper="arXiv:1904.05835",
    needs=("parameters",),
    budget="weight: 6 trials of {0, .1, .3, 1, 3, 10}; layers: {last:1, all}",
)
class VariationalInformation(BlockTransfer, nn.Module):
    """Label loss + weight x the sum over pairs of blocks of `vid_loss` on patch tokens.

    Means and variances are trained from the first step on (a widespread release leaves the variances out of
    the optimiser, which makes it a scaled squared error). Published at every stage of a convolutional
    network; here at the last block, or where `layers` says. Grids that differ are averaged to the smaller.
    """

    name = "vid"
    over = "sum"

    floors = {"vid": "open"}

    class Config(BlockSettings):
        variance: float = Field(default=5.0, ge=1e-3, le=1e3, description="of every channel, at the start")

    def __init__(self, config: Config, cell: CellFacts) -> None:
        """Draw one guess for each block."""
        super().__init__(config, cell)
        widths = cell.student.size.width, self.teacher_architecture.size.width
        self.guesses = nn.ModuleDict({str(i): GaussianGuess(*widths, config.variance) for i in self.pairs})

    def distance(self, student: Tensor, teacher: Tensor, block: int) -> Tensor:
        found: Tensor = self.guesses[str(block)](*on_common_grid(student, teacher))
        return found
