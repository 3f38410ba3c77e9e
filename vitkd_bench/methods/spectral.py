"""SpectralKD: match the spectra of feature maps over the grid of patches (arXiv:2412.19055)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vitkd_bench.contracts import CellFacts
from vitkd_bench.methods._feature_transfer import BlockSettings, BlockTransfer, Pairing, wider_student
from vitkd_bench.methods._layers import Layers
from vitkd_bench.methods._precision import at_least_single
from vitkd_bench.methods._tokens import as_grid
from vitkd_bench.registry import METHODS


def spectral_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the spectra of patch tokens: student (B, P, D), teacher (B, P, E), E >= D.

    The teacher's channels are averaged down to D in neighbouring windows, which overlap where D does not
    divide E; both sides pass an orthonormal real 2-D Fourier transform over the square grid; the mean is over
    batch, channels, frequencies, real and imaginary parts. The teacher is detached. At equal channels it is
    plain mean squared error x W (1 + r) / (4 (W // 2 + 1)) for a grid W wide, where r in [0, 1] is the share
    of the difference's energy in columns 0 and W / 2: spectra of real rows hold these once, all others twice.
    Source: code thy960112/SpectralKD losses.py:62-83.

    Raises:
        ValueError: the student has more channels than the teacher.
    """
    ours, target = at_least_single(student), channels_pooled(teacher.detach(), student.shape[-1])
    difference = torch.fft.rfft2(as_grid(ours), norm="ortho") - torch.fft.rfft2(as_grid(target), norm="ortho")
    return torch.view_as_real(difference).square().mean()


def channels_pooled(tokens: Tensor, width: int) -> Tensor:
    """Average the channels of tokens (B, P, E) down to (B, P, width), each over a window of neighbours.

    Raises:
        ValueError: `width` is above E.
    """
    if width > tokens.shape[-1]:
        raise ValueError(f"{tokens.shape[-1]} channels of the teacher cannot be pooled to {width}")
    return F.adaptive_avg_pool1d(at_least_single(tokens), width)


class SpectralSettings(BlockSettings):
    """Settings of `spectral` and of its control."""

    layers: Layers = Field(default="all", description="blocks of the student whose tokens are matched")
    pairing: Pairing = Field(
        default="ends",
        description="of blocks of unequal depths: by share of the depth, or from the nearer end",
    )


class PooledChannels(BlockTransfer):
    """What `spectral` and its control have in common: a student that is not the wider one."""

    @classmethod
    def refuses(cls, config: SpectralSettings, cell: CellFacts) -> str | None:
        because = f"{cls.name} pools the teacher's channels down to the student's"
        return super().refuses(config, cell) or wider_student(cell, because)


@METHODS.register(
    "spectral",
    title="Spectra of feature maps (SpectralKD)",
    kind="feature",
    paper="arXiv:2412.19055",
    needs=("grid",),
    budget="weight: 6 trials of 0 and .2 x {.1, .3, 1, 3, 10}; layers: {first:1, last:1, both}",
)
class Spectral(PooledChannels):
    """(1 - kd) label loss + kd KL + weight x the mean over blocks of the spectra's squared difference.

    Published: weight .2, kd .9 (`kd: 0.9`), blocks 0, 1 and 6 to 11 of 12 with 0, 1 and 18 to 23 of 24
    (`layers: [0, 1, 6, 7, 8, 9, 10, 11]`, `pairing: ends`), 400 or 500 epochs, no drop path, no mixup. The
    default takes all blocks, since that list means nothing at another depth, and no kd, so that a teacher
    needs no head. Class token and registers are left out.

    Traps: the transform is orthonormal, so this is plain squared error with a mild weighting of columns;
    compare with `spectral_mse`. Pooling mixes whichever channels are neighbours: another order of the
    teacher's channels, which means nothing to the teacher, gives another target.
    """

    name = "spectral"

    class Config(SpectralSettings):
        weight: float = Field(default=0.2, ge=0, description="of the features' loss; the task loss weighs 1")

    def distance(self, student: Tensor, teacher: Tensor, block: int) -> Tensor:
        return spectral_loss(student, teacher)
