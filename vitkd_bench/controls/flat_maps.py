"""Maps without an image in them: the uniform one, and the mean over the images of a batch."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from vitkd_bench.attention import AttentionCall
from vitkd_bench.contracts import Control, Features
from vitkd_bench.registry import CONTROLS


@CONTROLS.register(
    "uniform_map",
    title="uniform attention",
    claim="that it matters where the teacher attends",
    acts_on=("attention",),
)
class UniformMap(Control):
    """Every query attends to all N keys alike, 1/N each: queries and keys are zero, values the teacher's."""

    def seen(self, teacher: Features, ids: Tensor, labels: Tensor | None = None, epoch: int = 0) -> Features:
        return replace(teacher, attention={i: _blank(call) for i, call in teacher.attention.items()})


@CONTROLS.register(
    "mean_map",
    title="mean attention of the batch",
    claim="that the maps of an image say more than those of the average image",
    acts_on=("attention",),
    needs=("batch",),
)
class MeanMap(Control):
    """Every image gets the mean of the maps over its batch, head by head; values are the teacher's own.

    The mean is no product of queries and keys: these are zero, and its logarithm is the bias. A method that
    reads queries or keys by themselves reads zeros. At test the mean is over the evaluation batch.
    """

    def seen(self, teacher: Features, ids: Tensor, labels: Tensor | None = None, epoch: int = 0) -> Features:
        return replace(teacher, attention={i: _mean(call) for i, call in teacher.attention.items()})


def _blank(call: AttentionCall) -> AttentionCall:
    return replace(call, q=torch.zeros_like(call.q), k=torch.zeros_like(call.k), bias=None)


def _mean(call: AttentionCall) -> AttentionCall:
    maps = call.maps().mean(dim=0, keepdim=True)
    floor = torch.finfo(maps.dtype).tiny  # a map may underflow to 0, and log 0 would mask the key
    return replace(_blank(call), bias=maps.clamp_min(floor).log().to(call.q.dtype))
