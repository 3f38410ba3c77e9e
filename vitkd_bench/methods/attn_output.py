"""Attention-output matching: what each head reads is compared, before the output projection.

Used beside map matching by the follow-up of the attention transfer study (arXiv:2609.35745, appendix B.4).
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field
from torch import Tensor

from vitkd_bench.attention import AttentionCall, copied_attention
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
from vitkd_bench.registry import METHODS


def attn_output_loss(
    student: Sequence[AttentionCall], teacher: Sequence[AttentionCall], *, over: Over = "sum"
) -> Tensor:
    """Squared difference of what attention gives, map times values, summed (or averaged) over blocks.

    The calls are paired by position; outputs are (B, H, N, e) on both sides, per head and before the output
    projection. Per block: mean over all elements. Maps are not kept. The teacher is detached; floor 0, which
    equal maps alone do not reach. Source: arXiv:2609.35745, appendix B.4, as a loss; its reduction there is
    not stated, this one is that of `F.mse_loss`.

    Raises:
        ValueError: not as many calls on both sides, none, or outputs of another shape.
    """
    refuse_unpaired(student, teacher)
    parts = [
        squared_difference(copied_attention(ours, ours.v), copied_attention(theirs, theirs.v), "the output")
        for ours, theirs in zip(student, (call.detach() for call in teacher), strict=True)
    ]
    return over_blocks(parts, over)


@METHODS.register(
    "attn_output",
    title="Attention-output matching",
    kind="attention",
    paper="arXiv:2609.35745",
    needs=("width",),
    budget="weight: 6 trials of {3, 10, 30, 50, 100, 300}; layers: {all, first 3/4}",
)
class AttentionOutput(BlockMatching):
    """Cross-entropy with labels + weight x the sum over blocks of the squared difference of head outputs.

    Here values are transferred with the map, where `attn_distill` leaves them to the student.
    """

    class Config(MatchSettings):
        weight: float = Field(
            default=50.0, ge=0, description="of the difference, against a label loss of weight 1"
        )

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        config = self.config
        distance = attn_output_loss(*self.calls(student, teacher), over=config.over)
        weight = config.weight * config.factor(batch.progress)
        return {"labels": label_loss_of(student, batch), "attn_output": weight * distance}
