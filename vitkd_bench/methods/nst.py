"""Neuron selectivity transfer: match the distribution of channels over places (arXiv:1707.01219)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vitkd_bench.methods._feature_transfer import BlockSettings, BlockTransfer, on_common_grid
from vitkd_bench.methods._precision import at_least_single
from vitkd_bench.registry import METHODS


def nst_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of channels, kernel (x.y)^2: student (B, P, D), teacher (B, Q, E).

    A channel is its activation over the patches, made a vector of length one; the finer grid is averaged
    down to the coarser first. Per image mean k(t, t') + mean k(s, s') - 2 mean k(s, t) over pairs of
    channels, then the mean over the batch; at least 0, at most 2. Computed as the squared Frobenius distance
    of both sides' mean outer products x x^T (places x places), which is the same number, cannot turn negative
    by rounding and keeps no D x D array. The teacher is detached. Source: section 4, polynomial kernel with
    d = 2 and c = 0, in the reduction of HobbitLong/RepDistiller distiller_zoo/NST.py.
    """
    ours, theirs = on_common_grid(at_least_single(student), at_least_single(teacher.detach()))
    with torch.autocast(ours.device.type, enabled=False):
        difference = _mean_outer_product(ours) - _mean_outer_product(theirs)
    return difference.square().sum(dim=(1, 2)).mean()


def _mean_outer_product(patches: Tensor) -> Tensor:
    channels = F.normalize(patches, dim=1, eps=1e-6)
    return channels @ channels.mT / patches.shape[-1]


@METHODS.register(
    "nst",
    title="Neuron selectivity transfer",
    kind="feature",
    paper="arXiv:1707.01219",
    budget="weight: 6 trials of 0 and 5 x {.1, .3, 1, 3, 10}; layers: {last:1, 4 even}",
)
class NeuronSelectivityTransfer(BlockTransfer):
    """Label loss + weight x the sum over blocks of the channels' squared discrepancy.

    Channels are compared as sets: their order, number and signs play no part. Widths and grids may differ;
    class token and registers are left out. No trained part. Public comparisons of CNNs weigh it 50
    (RepDistiller), which on tokens of ViTs starts with 4 to 20 times the gradient of the labels: hence 5.
    """

    name = "nst"
    over = "sum"

    class Config(BlockSettings):
        weight: float = Field(default=5.0, ge=0, description="of the features' loss; the task loss weighs 1")

    def distance(self, student: Tensor, teacher: Tensor, block: int) -> Tensor:
        return nst_loss(student, teacher)
