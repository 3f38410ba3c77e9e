"""The control of SpectralKD: its pooled target and its blocks, and no Fourier transform."""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vitkd_bench.methods._precision import at_least_single
from vitkd_bench.methods.spectral import PooledChannels, SpectralSettings, channels_pooled
from vitkd_bench.registry import METHODS


def spectral_mse_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of patch tokens, student (B, P, D), teacher (B, P, E) pooled to D channels.

    Mean over every element; the teacher is detached. The target is that of `spectral_loss`; over the full
    spectrum, stacked into real and imaginary parts, the loss would be exactly half of this one.

    Raises:
        ValueError: the student has more channels than the teacher.
    """
    ours, target = at_least_single(student), channels_pooled(teacher.detach(), student.shape[-1])
    return F.mse_loss(ours, target)


@METHODS.register(
    "spectral_mse",
    title="Feature maps with pooled channels (control of SpectralKD)",
    kind="feature",
    paper="our own control of arXiv:2412.19055",
    needs=("grid",),
    budget="weight: 6 trials of 0 and .1 x {.1, .3, 1, 3, 10}; layers: {first:1, last:1, both}",
)
class SpectralMSE(PooledChannels):
    """(1 - kd) label loss + kd KL + weight x the mean over blocks of the tokens' squared difference.

    Half the weight of `spectral`: for a difference without a preferred column its spectral loss is half of
    the plain one. A gain of `spectral` over this method is what the transform is worth; pooling and choice of
    blocks are in both.
    """

    name = "spectral_mse"

    class Config(SpectralSettings):
        weight: float = Field(default=0.1, ge=0, description="of the features' loss; the task loss weighs 1")

    def distance(self, student: Tensor, teacher: Tensor, block: int) -> Tensor:
        return spectral_mse_loss(student, teacher)
