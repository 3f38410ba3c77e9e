"""Wrong layers: what the teacher does in one block is given out as done in another."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import Field
from torch import Tensor

from vitkd_bench.contracts import CellFacts, Control, Features, Method, taps
from vitkd_bench.controls._draws import cycle, stream
from vitkd_bench.registry import CONTROLS
from vitkd_bench.spec import Settings

KINDS = ("attention", "tokens")


@CONTROLS.register(
    "wrong_layers",
    title="blocks of the teacher in another order",
    claim="that it matters which block learns from which",
    acts_on=KINDS,
)
class WrongLayers(Control):
    """Attention and tokens of the teacher's blocks under other numbers, the same for the whole of a run.

    `reversed`: the last block stands for the first. `random`: one permutation in which no block keeps its
    number. Pooled features and logits stay.
    """

    class Config(Settings):
        order: Literal["reversed", "random"] = Field(
            default="reversed", description="from last to first, or drawn once a run"
        )

    @classmethod
    def refuses(cls, config: Config, method: Method, cell: CellFacts) -> str | None:
        teacher = cell.teacher_architecture
        depth = teacher.size.depth if teacher else 0
        asked = {block for kind in KINDS for block in taps.blocks_of(method.teacher_taps(), kind)}
        if depth < 2:
            return "a teacher of one block has no other order"
        if config.order == "reversed" and asked == {depth // 2} and depth % 2:
            return f"reversed, block {depth // 2} of {depth} keeps its place; order: random moves it"
        return None

    @property
    def order(self) -> list[int]:
        """The teacher's block that stands for each of its blocks."""
        teacher = self.cell.teacher_architecture
        if teacher is None:
            raise TypeError("wrong_layers orders a teacher's blocks anew, and the cell has no teacher")
        depth = teacher.size.depth
        if self.config.order == "reversed":
            return list(reversed(range(depth)))
        found: list[int] = cycle(depth, stream(self.seed, "layers")).tolist()
        return found

    def taps(self, wanted: frozenset[str]) -> frozenset[str]:
        """Read the blocks that stand for those that the method asks for."""
        order = self.order
        names = {"attention": taps.attention, "tokens": taps.tokens}
        moved = {kind: taps.blocks_of(wanted, kind) for kind in KINDS}
        old = {names[kind](i) for kind, blocks in moved.items() for i in blocks}
        return (wanted - old) | {names[kind](order[i]) for kind, blocks in moved.items() for i in blocks}

    def seen(self, teacher: Features, ids: Tensor, labels: Tensor | None = None, epoch: int = 0) -> Features:
        order = dict(enumerate(self.order))
        return replace(
            teacher,
            attention={i: teacher.attention[j] for i, j in order.items() if j in teacher.attention},
            tokens={i: teacher.tokens[j] for i, j in order.items() if j in teacher.tokens},
        )
