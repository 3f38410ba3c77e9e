"""Attention copy: the student attends where the teacher does (Li et al., NeurIPS 2024, arXiv:2411.09702)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from pydantic import Field
from torch import Tensor, nn

from vitkd_bench.attention import AttentionCall
from vitkd_bench.contracts import Batch, CellFacts, Features, Method, Network, taps
from vitkd_bench.methods._labels import label_loss_of
from vitkd_bench.methods._layers import Layers, blocks_of
from vitkd_bench.methods._pairing import left_out, maps_differ, teacher_calls
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings


@METHODS.register(
    "attn_copy",
    title="Attention copy",
    kind="attention",
    paper="arXiv:2411.09702",
    needs_teacher_at_test=True,
    budget="0 for the weight, there is none; layers: {all, first 3/4}",
)
class AttentionCopy(Method):
    """Blocks of the student use the teacher's attention over values of their own; the loss is on labels.

    The student's own queries and keys are unused in copied blocks. Values share a fused weight with them,
    so their gradient is exactly zero but not absent, and weight decay would shrink them (the published code
    lets it). Here they are frozen: `after_step` writes the initial rows back, so that what is trained is
    what is used. Being constant, they need no place in a checkpoint. Where a block has a position bias of
    its own, that is replaced too and has no gradient at all. Tokens that only the teacher has are left out of
    its maps (`registers: none`, `class_token: none` of a student).
    """

    class Config(Settings):
        layers: Layers = Field(default="all", description="blocks that use the teacher's attention")

    def __init__(self, config: Config, cell: CellFacts) -> None:
        """Keep the settings; rows to hold are known after `fit`."""
        super().__init__(config, cell)
        self._held: list[tuple[Tensor, Tensor]] = []

    @classmethod
    def refuses(cls, config: Config, cell: CellFacts) -> str | None:
        return maps_differ(config.layers, cell)

    def teacher_taps(self) -> frozenset[str]:
        return frozenset(taps.attention(block) for block in self.injects())

    def injects(self) -> tuple[int, ...]:
        return blocks_of(self.config.layers, self.cell.student.size.depth)

    def injected(self, teacher: Features | None) -> dict[int, AttentionCall]:
        return teacher_calls(teacher, self.injects(), self.cell) if teacher else {}

    def fit(self, student: Network, teacher: Network | None, batches: Iterable[Batch]) -> None:
        """Remember the query and key rows of every copied block."""
        rows = [query_key_rows(student.blocks[block]) for block in self.injects()]
        self._held = [(row, row.detach().clone()) for row in rows]

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        return {"labels": label_loss_of(student, batch)}

    def notes(self) -> tuple[str, ...]:
        count = sum(rows.numel() for rows, _ in self._held)
        blocks = ", ".join(map(str, self.injects()))
        unused = f"{count} query and key weights of the student are unused and frozen, in blocks {blocks}"
        return (unused, *left_out(self.cell))

    def after_step(self, student: Network, progress: float) -> None:
        """Undo the decay of unused rows."""
        with torch.no_grad():
            for rows, initial in self._held:
                rows.copy_(initial)


def query_key_rows(block: nn.Module) -> Tensor:
    """Give the query and key rows (2 D, D) of a block's fused weight (3 D, D), as a view into it."""
    weight = block.get_parameter("attn.qkv.weight")
    return weight.detach()[: 2 * weight.shape[0] // 3]
