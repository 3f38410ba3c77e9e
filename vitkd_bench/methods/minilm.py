"""MiniLM v2: relations between queries, between keys and between values (Wang et al., arXiv:2012.15828)."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vitkd_bench.attention import AttentionCall
from vitkd_bench.contracts import Batch, CellFacts, Features, taps
from vitkd_bench.methods._feature_transfer import (
    FeatureTransfer,
    TransferSettings,
    architecture_of_teacher,
)
from vitkd_bench.methods._precision import in_full_precision
from vitkd_bench.methods._shared_tokens import common_tokens, keep, uncommon
from vitkd_bench.registry import METHODS


@in_full_precision
def minilm_loss(student: Tensor, teacher: Tensor, heads: int) -> Tensor:
    """KL of the student's self-relations from the teacher's, on vectors (B, N, D_s) and (B, N, D_t), in nats.

    The vectors, queries say, of all attention heads side by side are cut into `heads` relation heads of
    width d; a relation is softmax(x x^T / sqrt(d)) within one. Summed over keys, mean over batch, relation
    heads and rows. The teacher is detached. A rotation common to all tokens inside a relation head changes
    nothing; an exchange of channels between heads does. Source: arXiv:2012.15828, section 3.1;
    bloomberg/minilmv2.bb minilmv2/minilmv2.py, formulae 5 to 8.

    Raises:
        ValueError: `heads` does not divide both widths, or the tokens differ in number.
    """
    if student.shape[-1] % heads or teacher.shape[-1] % heads or student.shape[1] != teacher.shape[1]:
        raise ValueError(
            f"{heads} relation heads over {tuple(student.shape)} and {tuple(teacher.shape)}: they must "
            "divide both widths, and tokens must be as many"
        )
    divergence: Tensor = F.kl_div(
        _relations(student, heads),
        _relations(teacher.detach(), heads),
        reduction="sum",
        log_target=True,
    )
    rows = student.shape[0] * heads * student.shape[1]
    return divergence / rows


def _relations(vectors: Tensor, heads: int) -> Tensor:
    """Log-probabilities (B, heads, N, N) of a token's relations to all tokens."""
    cut: Tensor = vectors.unflatten(-1, (heads, -1)).transpose(1, 2)
    return (cut @ cut.mT / math.sqrt(cut.shape[-1])).log_softmax(dim=-1)


@METHODS.register(
    "minilm",
    title="MiniLM v2 (self-attention relations)",
    kind="relation",
    paper="arXiv:2012.15828",
    needs=("grid",),
    budget="weight: 6 trials of {0, .1, .3, 1, 3, 10}; relations: {qkv, v}; teacher_depth: {1, .75}",
)
class SelfAttentionRelations(FeatureTransfer):
    """Label loss + weight x the mean over queries, keys and values of `minilm_loss`.

    Read at the student's last block and at one of the teacher's. Queries and keys are those that attention
    uses: after the block's first norm, after rotary embedding and the norm of queries and keys where a family
    has these. Widths, heads and depth may differ. Published for text with 48 relation heads for a width of
    768 and all tokens; here as many as the teacher has heads, unless `relation_heads` says otherwise. The
    first version of MiniLM, with the attention map itself, is `attn_distill` on the last block.
    """

    name = "minilm"

    class Config(TransferSettings):
        relations: Literal["qkv", "v"] = Field(
            default="qkv", description="what is related: queries, keys and values, or values alone"
        )
        relation_heads: int = Field(
            default=0,
            ge=0,
            description="parts that a vector is cut into; 0 for the teacher's number of heads",
        )
        teacher_depth: float = Field(
            default=1.0, gt=0, le=1, description="share of the teacher's depth at which the block read ends"
        )
        tokens: Literal["all", "patches"] = Field(
            default="all", description="all tokens that both sides have, or patches alone"
        )

    @classmethod
    def refuses(cls, config: Config, cell: CellFacts) -> str | None:
        if why := super().refuses(config, cell):
            return why
        teacher = architecture_of_teacher(cell).size
        heads = config.relation_heads or teacher.heads
        ours, theirs = cell.student.size.width, teacher.width
        if ours % heads or theirs % heads:
            fits = max(n for n in range(1, heads + 1) if ours % n == theirs % n == 0)
            return (
                f"{heads} relation heads do not divide the widths: student {ours}, teacher {theirs}; "
                f"relation_heads: {fits} would"
            )
        return None

    @property
    def blocks(self) -> tuple[int, int]:
        """The student's block and the teacher's."""
        depth = self.teacher_architecture.size.depth
        return self.cell.student.size.depth - 1, math.ceil(self.config.teacher_depth * depth) - 1

    def teacher_taps(self) -> frozenset[str]:
        return super().teacher_taps() | {taps.attention(self.blocks[1])}

    def student_taps(self) -> frozenset[str]:
        return frozenset({taps.attention(self.blocks[0])})

    def transferred(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        theirs = self.teacher_architecture
        heads = self.config.relation_heads or theirs.size.heads
        ours = self._vectors(student.attention[self.blocks[0]], common_tokens(self.cell.student, theirs))
        other = self._vectors(teacher.attention[self.blocks[1]], common_tokens(theirs, self.cell.student))
        return torch.stack([minilm_loss(s, t, heads) for s, t in zip(ours, other, strict=True)]).mean()

    def _vectors(self, call: AttentionCall, positions: tuple[int, ...]) -> list[Tensor]:
        """Queries, keys and values, or values alone, of the chosen tokens: (B, N, D) each."""
        if self.config.tokens == "patches":
            positions = positions[-(self.cell.student.grid**2) :]
        chosen = (call.q, call.k, call.v) if self.config.relations == "qkv" else (call.v,)
        return [keep(each.transpose(1, 2).flatten(2), positions, 1) for each in chosen]

    def notes(self) -> tuple[str, ...]:
        if self.config.tokens == "patches":
            return ()
        return uncommon(self.cell.student, self.teacher_architecture)
