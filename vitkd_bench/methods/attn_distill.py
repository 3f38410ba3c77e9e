"""Attention distillation: the student's maps learn to match the teacher's (Li et al., arXiv:2411.09702)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor

from vitkd_bench.attention import AttentionCall, attention_distillation
from vitkd_bench.contracts import Batch, CellFacts, Features, Method, taps
from vitkd_bench.methods._labels import label_loss_of
from vitkd_bench.methods._layers import Layers, blocks_of
from vitkd_bench.methods._pairing import left_out, maps_differ, teacher_calls
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings


def attn_distill_loss(
    student: Sequence[AttentionCall], teacher: Sequence[AttentionCall], loss: Literal["ce", "kl"] = "ce"
) -> Tensor:
    """Distance of the student's attention maps from the teacher's, in nats, summed over blocks.

    The calls are paired by position; q and k are (B, H, N, d) with equal B, H and N on both sides. Per
    block: sum over keys, mean over batch, heads and queries, the class token's row and column included.
    `ce` is -sum_j A_t log A_s, whose floor is the teacher's entropy; `kl` subtracts that entropy, so that
    its floor is 0; their gradients are equal. The teacher is detached. Source: arXiv:2411.09702, code
    models_dual_vit.py:277-283.
    """
    if not student or len(student) != len(teacher):
        raise ValueError(f"as many blocks on both sides, at least one: got {len(student)} and {len(teacher)}")
    parts = [attention_distillation(s, t, loss=loss) for s, t in zip(student, teacher, strict=True)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


@METHODS.register(
    "attn_distill",
    title="Attention distillation",
    kind="attention",
    paper="arXiv:2411.09702",
    budget="weight: 6 trials of {.03, .1, .3, 1, 3, 10}; layers: {all, first 3/4}",
)
class AttentionDistillation(Method):
    """Cross-entropy with labels + weight x the sum over blocks of the distance between attention maps.

    The teacher is not needed at test. At the start maps are nearly uniform, so the cross-entropy is about
    ln N a block: the default weight suits long recipes, short ones want less. Tokens that only the teacher
    has are left out of its maps (`registers: none`, `class_token: none` of a student).
    """

    class Config(Settings):
        layers: Layers = Field(default="all", description="blocks whose maps are matched")
        weight: float = Field(
            default=3.0, ge=0, description="of the maps' loss, against a label loss of weight 1"
        )
        loss: Literal["ce", "kl"] = Field(
            default="ce", description="distance of maps: cross-entropy, or KL (same gradient, floor at 0)"
        )

    @classmethod
    def refuses(cls, config: Config, cell: CellFacts) -> str | None:
        return maps_differ(config.layers, cell)

    @property
    def blocks(self) -> tuple[int, ...]:
        """Numbers of the blocks that are matched."""
        return blocks_of(self.config.layers, self.cell.student.size.depth)

    def teacher_taps(self) -> frozenset[str]:
        return frozenset(taps.attention(block) for block in self.blocks)

    def student_taps(self) -> frozenset[str]:
        return self.teacher_taps()

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        if teacher is None:
            raise TypeError("attn_distill reads a teacher, and none was given")
        calls = [student.attention[block] for block in self.blocks]
        targets = list(teacher_calls(teacher, self.blocks, self.cell).values())
        maps = attn_distill_loss(calls, targets, self.config.loss)
        return {"labels": label_loss_of(student, batch), "attention": self.config.weight * maps}

    def notes(self) -> tuple[str, ...]:
        return left_out(self.cell)
