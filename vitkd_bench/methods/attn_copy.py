"""Attention copy: the student attends where the teacher does (Li et al., NeurIPS 2024, arXiv:2411.09702)."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field
from torch import Tensor

from vitkd_bench.attention import AttentionCall, AveragedCall, PartialCall, with_heads
from vitkd_bench.contracts import Batch, CellFacts, Features, Method, Network, taps
from vitkd_bench.methods._held_rows import HeldRows
from vitkd_bench.methods._labels import label_loss_of
from vitkd_bench.methods._layers import Heads, Layers, heads_of
from vitkd_bench.methods._pairing import (
    Match,
    experimental_note,
    left_out,
    maps_differ,
    matched_blocks,
    teacher_calls,
)
from vitkd_bench.methods._shared_drop_path import SharedDropPath, paths_differ
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

    `lc_compat` does what the published code does in training: the teacher runs under the drop path masks of
    the student (models_dual_vit.py:247, 261-263; not at test), and unused rows are left to weight decay. Its
    number of blocks is a setting of its own: whatever that code is asked, it leaves the last three free
    (`layers: first:21` of 24).

    `match: experimental_nearest` is ours, for pairs of different size. A block takes the teacher's block that
    ends at the same share of the depth; where the teacher has more heads, a head attends by the mean map of
    its group, where it has fewer, several heads attend by one map.
    """

    class Config(Settings):
        layers: Layers = Field(default="all", description="blocks that use the teacher's attention")
        heads: Heads = Field(default="all", description="heads that do, the same ones in every block")
        match: Match = Field(
            default="exact", description="blocks and heads: number by number, or across sizes (experimental)"
        )
        lc_compat: bool = Field(
            default=False,
            description="as the published code: the teacher under the student's drop path masks, rows decay",
        )

    def __init__(self, config: Config, cell: CellFacts) -> None:
        """Keep the settings; rows to hold and networks that share masks are known after `fit`."""
        super().__init__(config, cell)
        self.held: HeldRows | None = None
        self.shared: SharedDropPath | None = None

    @classmethod
    def refuses(cls, config: Config, cell: CellFacts) -> str | None:
        return maps_differ(config.layers, cell, config.heads, config.match) or (
            paths_differ(cell) if config.lc_compat else None
        )

    @classmethod
    def reads_alone(cls, config: Config) -> bool:
        return config.lc_compat

    @property
    def pairs(self) -> dict[int, int]:
        """The teacher's block for each block that copies."""
        return matched_blocks(self.config.layers, self.cell, self.config.match)

    @property
    def heads(self) -> tuple[int, ...]:
        """Numbers of the heads that copy."""
        return heads_of(self.config.heads, self.cell.student.size.heads)

    def teacher_taps(self) -> frozenset[str]:
        return frozenset(taps.attention(block) for block in self.pairs.values())

    def injects(self) -> tuple[int, ...]:
        return tuple(self.pairs)

    def injected(self, teacher: Features | None) -> dict[int, AttentionCall]:
        if teacher is None:
            return {}
        pairs = self.pairs
        read = teacher_calls(teacher, tuple(pairs.values()), self.cell)
        return {own: self._stand_in(read[block]) for own, block in pairs.items()}

    def _stand_in(self, call: AttentionCall) -> AttentionCall:
        """Fit a teacher's call to the heads of the student that copy."""
        own, given = self.cell.student.size.heads, call.q.shape[1]
        if given > own:
            return AveragedCall(call.q, call.k, call.v, call.bias, call.scale)
        if len(self.heads) < own:
            return PartialCall(call.q, call.k, call.v, call.bias, call.scale, heads=self.heads)
        return with_heads(call, own)

    def fit(self, student: Network, teacher: Network | None, batches: Iterable[Batch]) -> None:
        """Remember the query and key rows that go unused, or let the teacher share the student's masks."""
        if self.config.lc_compat:
            self.shared = SharedDropPath(student, teacher)
            return
        blocks = [student.blocks[block] for block in self.injects()]
        self.held = HeldRows(blocks, "qk", self.heads, self.cell.student.size.heads)

    def step(self, student: Network, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        if self.shared is not None:
            teacher = self.shared.read(batch.for_teacher, self.teacher_taps())
        return super().step(student, teacher, batch)

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        return {"labels": label_loss_of(student, batch)}

    def notes(self) -> tuple[str, ...]:
        blocks = ", ".join(map(str, self.injects()))
        unused = (
            f"query and key weights of the student are unused and left to weight decay, in blocks {blocks}"
        )
        if self.held is not None:
            unused = (
                f"{len(self.held)} query and key weights of the student are unused and frozen, "
                f"in blocks {blocks}"
            )
        experimental = experimental_note(self.pairs, self.cell, self.config.match)
        return (unused, *left_out(self.cell), *experimental)

    def after_step(self, student: Network, progress: float) -> None:
        """Undo the decay of unused rows."""
        if self.held is not None:
            self.held.restore()
