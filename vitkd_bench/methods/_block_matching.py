"""What methods have in common that compare attention calls of student and teacher, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vitkd_bench.attention import AttentionCall, select_heads, with_heads
from vitkd_bench.contracts import CellFacts, Features, Method, taps
from vitkd_bench.methods._layers import Heads, Layers, heads_of
from vitkd_bench.methods._pairing import (
    Match,
    experimental_note,
    left_out,
    maps_differ,
    matched_blocks,
    teacher_calls,
)
from vitkd_bench.methods._schedule import Scheduled

Over = Literal["sum", "mean"]


def over_blocks(parts: Sequence[Tensor], over: Over) -> Tensor:
    """Add up or average the losses of the blocks, at least one."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total if over == "sum" else total / len(parts)


def refuse_unpaired(student: Sequence[object], teacher: Sequence[object]) -> None:
    """Refuse lists, an entry a block, that cannot be paired by position.

    Raises:
        ValueError: no blocks, or not as many on both sides.
    """
    if not student or len(student) != len(teacher):
        raise ValueError(f"as many blocks on both sides, at least one: {len(student)}, {len(teacher)}")


def squared_difference(student: Tensor, teacher: Tensor, what: str) -> Tensor:
    """Squared difference of two tensors of one shape, mean over all elements, in float32 or better.

    The teacher is detached.

    Raises:
        ValueError: the shapes differ; the message says of `what`.
    """
    if student.shape != teacher.shape:
        ours, theirs = tuple(student.shape), tuple(teacher.shape)
        raise ValueError(f"{what} differs in shape: student {ours}, teacher {theirs}")
    dtype = torch.promote_types(student.dtype, torch.float32)
    return F.mse_loss(student.to(dtype), teacher.detach().to(dtype))


class MatchSettings(Scheduled):
    """Settings that all of these methods have."""

    layers: Layers = Field(default="all", description="blocks whose attention is matched")
    heads: Heads = Field(default="all", description="heads that are matched, the same ones in every block")
    over: Over = Field(default="sum", description="losses of the blocks are added up, or averaged")


class BlockMatching(Method):
    """Reads the attention of both sides in the blocks of the settings."""

    Config = MatchSettings

    @classmethod
    def refuses(cls, config: Any, cell: CellFacts) -> str | None:
        return maps_differ(config.layers, cell, config.heads, cls.match_of(config))

    @classmethod
    def match_of(cls, config: Any) -> Match:
        """Say how blocks and heads meet under these settings."""
        return "exact"

    @property
    def pairs(self) -> dict[int, int]:
        """The teacher's block for each block that is matched."""
        return matched_blocks(self.config.layers, self.cell, self.match_of(self.config))

    def teacher_taps(self) -> frozenset[str]:
        return frozenset(taps.attention(block) for block in self.pairs.values())

    def student_taps(self) -> frozenset[str]:
        return frozenset(taps.attention(block) for block in self.pairs)

    def calls(
        self, student: Features, teacher: Features | None
    ) -> tuple[list[AttentionCall], list[AttentionCall]]:
        """Give the calls of both sides, paired by position: tokens, heads and their number are equal."""
        if teacher is None:
            raise TypeError("a method that matches attention reads a teacher, and none was given")
        pairs = self.pairs
        read = teacher_calls(teacher, tuple(pairs.values()), self.cell)
        ours = [self._heads(student.attention[own]) for own in pairs]
        theirs = [self._heads(read[block]) for block in pairs.values()]
        return ours, theirs

    def _heads(self, call: AttentionCall) -> AttentionCall:
        """Choose heads; where numbers differ repeat those of the side that has fewer, each in a row."""
        teacher, student = self.cell.teacher_architecture, self.cell.student
        if self.match_of(self.config) != "exact" and teacher is not None:
            return with_heads(call, max(teacher.size.heads, student.size.heads))
        return select_heads(call, heads_of(self.config.heads, student.size.heads))

    def notes(self) -> tuple[str, ...]:
        match = self.match_of(self.config)
        return (*left_out(self.cell), *experimental_note(self.pairs, self.cell, match))
