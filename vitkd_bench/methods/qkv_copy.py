"""Copy of queries, keys or values: the student attends with the teacher's (Li et al., arXiv:2411.09702)."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field
from torch import Tensor

from vitkd_bench.attention import AttentionCall, PartialCall
from vitkd_bench.contracts import Batch, CellFacts, Features, Method, Network, taps
from vitkd_bench.methods._held_rows import HeldRows
from vitkd_bench.methods._labels import label_loss_of
from vitkd_bench.methods._layers import Heads, Layers, blocks_of, heads_of
from vitkd_bench.methods._pairing import left_out, maps_differ, teacher_calls
from vitkd_bench.methods._qkv import QKVParts
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings


@METHODS.register(
    "qkv_copy",
    title="Copy of queries, keys or values",
    kind="attention",
    paper="arXiv:2411.09702",
    needs=("width",),
    needs_teacher_at_test=True,
    budget="0 for the weight, there is none; parts: {q, k, v}",
)
class QKVCopy(Method):
    """Blocks of the student attend with the teacher's q, k or v beside their own; the loss is on labels.

    Scale and position bias stay the student's own: with q and k copied the map is the teacher's where neither
    has a bias. The published code copies one of the three (`copy_q`, `copy_k`, `copy_v`); its paper finds the
    queries best, and better than the map. The student's own rows of what is copied are unused and frozen, as
    in `attn_copy`.
    """

    class Config(Settings):
        parts: QKVParts = Field(default=("q",), description="which of q, k, v are the teacher's")
        layers: Layers = Field(default="all", description="blocks that use them")
        heads: Heads = Field(default="all", description="heads that do, the same ones in every block")

    def __init__(self, config: Config, cell: CellFacts) -> None:
        """Keep the settings; rows to hold are known after `fit`."""
        super().__init__(config, cell)
        self.held: HeldRows | None = None

    @classmethod
    def refuses(cls, config: Config, cell: CellFacts) -> str | None:
        return maps_differ(config.layers, cell, config.heads)

    @property
    def heads(self) -> tuple[int, ...]:
        """Numbers of the heads that copy."""
        return heads_of(self.config.heads, self.cell.student.size.heads)

    def teacher_taps(self) -> frozenset[str]:
        return frozenset(taps.attention(block) for block in self.injects())

    def injects(self) -> tuple[int, ...]:
        return blocks_of(self.config.layers, self.cell.student.size.depth)

    def injected(self, teacher: Features | None) -> dict[int, AttentionCall]:
        if teacher is None:
            return {}
        calls = teacher_calls(teacher, self.injects(), self.cell)
        return {block: self._stand_in(call) for block, call in calls.items()}

    def _stand_in(self, call: AttentionCall) -> AttentionCall:
        whole = len(self.heads) == call.q.shape[1]
        parts = frozenset(self.config.parts)
        return PartialCall(
            call.q, call.k, call.v, call.bias, call.scale, parts, None if whole else self.heads
        )

    def fit(self, student: Network, teacher: Network | None, batches: Iterable[Batch]) -> None:
        """Remember the rows that go unused."""
        blocks = [student.blocks[block] for block in self.injects()]
        parts = "".join(self.config.parts)
        self.held = HeldRows(blocks, parts, self.heads, self.cell.student.size.heads)

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        return {"labels": label_loss_of(student, batch)}

    def notes(self) -> tuple[str, ...]:
        count = 0 if self.held is None else len(self.held)
        what, blocks = ", ".join(self.config.parts), ", ".join(map(str, self.injects()))
        unused = f"{count} weights of the student's {what} are unused and frozen, in blocks {blocks}"
        return (unused, *left_out(self.cell))

    def after_step(self, student: Network, progress: float) -> None:
        """Undo the decay of unused rows."""
        if self.held is not None:
            self.held.restore()
