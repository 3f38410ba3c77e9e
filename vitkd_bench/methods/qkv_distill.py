"""Distillation of queries, keys or values: their squared difference (Li et al., arXiv:2411.09702)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from vitkd_bench.attention import AttentionCall
from vitkd_bench.contracts import Batch, Features
from vitkd_bench.methods._block_matching import (
    BlockMatching,
    MatchSettings,
    Over,
    over_blocks,
    refuse_unpaired,
    squared_difference,
)
from vitkd_bench.methods._labels import label_loss_of
from vitkd_bench.methods._qkv import QKV, QKVParts
from vitkd_bench.registry import METHODS


def qkv_distill_loss(
    student: Sequence[AttentionCall],
    teacher: Sequence[AttentionCall],
    parts: Sequence[QKV] = ("q",),
    *,
    over: Over = "sum",
) -> Tensor:
    """Squared difference of queries, keys or values, summed over `parts` and summed (averaged) over blocks.

    The calls are paired by position; each part is (B, H, N, d) on both sides. Per block and part: mean over
    all elements. They are compared as attention takes them, before the scale (code of arXiv:2411.09702,
    models_dual_vit.py:278-280); rotary embedding and norms of q and k, where a network has them, are applied.
    The teacher is detached; floor 0.

    Raises:
        ValueError: not as many calls on both sides, none, or a part of another shape.
    """
    refuse_unpaired(student, teacher)
    blocks = []
    for ours, theirs in zip(student, teacher, strict=True):
        apart = [squared_difference(getattr(ours, part), getattr(theirs, part), part) for part in parts]
        blocks.append(torch.stack(apart).sum())
    return over_blocks(blocks, over)


@METHODS.register(
    "qkv_distill",
    title="Distillation of queries, keys or values",
    kind="attention",
    paper="arXiv:2411.09702",
    needs=("width",),
    budget="weight: 6 trials of {.1, .3, 1, 3, 10, 30}; parts: {q, k, v}",
)
class QKVDistillation(BlockMatching):
    """Cross-entropy with labels + weight x the sum over blocks of the squared difference of q, k or v.

    The published code matches one of the three, by default with the weight of its attention distillation.
    Here any of them may be named; q, the best one of the paper, is the default. Equal q and k make equal
    maps, up to a position bias; equal maps need no equal q and k, so this asks for more.
    """

    class Config(MatchSettings):
        parts: QKVParts = Field(default=("q",), description="which of q, k, v are matched")
        weight: float = Field(
            default=3.0, ge=0, description="of the difference, against a label loss of weight 1"
        )

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        config = self.config
        distance = qkv_distill_loss(*self.calls(student, teacher), config.parts, over=config.over)
        weight = config.weight * config.factor(batch.progress)
        return {"labels": label_loss_of(student, batch), "qkv_distill": weight * distance}
