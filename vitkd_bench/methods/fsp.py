"""FSP: match the flow between two blocks, their channels' inner products (Yim et al., CVPR 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vitkd_bench.contracts import Batch, CellFacts, Features, taps
from vitkd_bench.methods._feature_transfer import FeatureTransfer, TransferSettings, architecture_of_teacher
from vitkd_bench.methods._precision import at_least_single
from vitkd_bench.methods._tokens import patches_after
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Architecture

Flow = Literal["ends", "thirds"]


def fsp_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Squared difference of the flows between successive blocks' patch tokens, summed over pairs of blocks.

    Both lists hold tokens (B, P, D), at least two; D is equal throughout, P within a side. The flow of
    tokens a, b is a^T b / P, (B, D, D): its mean over places forgets the grid, so both sides may have grids
    of their own. Per pair the mean over batch and channels. The teacher is detached. Source: section 3.2
    (the matrix) and 3.3 (the loss), in the reduction of HobbitLong/RepDistiller distiller_zoo/FSP.py.

    Raises:
        ValueError: fewer than two blocks, or another number on the other side.
    """
    if len(student) < 2 or len(student) != len(teacher):
        raise ValueError(f"flows run between blocks, as many on both sides: {len(student)}, {len(teacher)}")
    ours, theirs = flows(student), flows([tokens.detach() for tokens in teacher])
    return torch.stack([F.mse_loss(s, t) for s, t in zip(ours, theirs, strict=True)]).sum()


def flows(tokens: Sequence[Tensor]) -> list[Tensor]:
    """Give the flow (B, D, D) between each of the tokens (B, P, D) and the next, float32 or better."""
    with torch.autocast(tokens[0].device.type, enabled=False):
        return [a.mT @ b / a.shape[1] for a, b in pairwise(map(at_least_single, tokens))]


@METHODS.register(
    "fsp",
    title="Flow between blocks (FSP)",
    kind="relation",
    paper="CVPR 2017 (Yim et al., A Gift from Knowledge Distillation)",
    needs=("width",),
    budget="weight: 6 trials of 0 and 1 x {.1, .3, 1, 3, 10}; flow: {ends, thirds}",
)
class FlowOfSolution(FeatureTransfer):
    """(1 - kd) label loss + kd KL + weight x the sum over pairs of blocks of their flows' difference.

    Widths must be equal, as published: a flow is channels by channels. Depths and grids may differ; class
    token and registers are left out. The paper trains in two stages, flows first; this method jointly, as
    later comparisons do. Public comparisons of CNNs weigh it 50 (RepDistiller). Flows grow with the square
    of activations: on tokens of ViTs that starts with 14 to 50 times the gradient of the labels, hence 1.
    """

    name = "fsp"

    class Config(TransferSettings):
        weight: float = Field(default=1.0, ge=0, description="of the features' loss; the task loss weighs 1")
        flow: Flow = Field(
            default="ends",
            description="from the first block to the last, or through the first blocks of all thirds",
        )

    @classmethod
    def refuses(cls, config: Config, cell: CellFacts) -> str | None:
        if why := super().refuses(config, cell):
            return why
        least = 2 if config.flow == "ends" else 4
        for depth in (cell.student.size.depth, architecture_of_teacher(cell).size.depth):
            if depth < least:
                return f"fsp with flow {config.flow} takes {least} blocks, and a network has {depth}"
        return None

    def student_taps(self) -> frozenset[str]:
        return frozenset(taps.tokens(block) for block in self.stops[0])

    def teacher_taps(self) -> frozenset[str]:
        return super().teacher_taps() | {taps.tokens(block) for block in self.stops[1]}

    @property
    def stops(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The blocks between which flows run, of the student and of the teacher, as many on both sides."""
        depths = self.cell.student.size.depth, self.teacher_architecture.size.depth
        ours, theirs = (_stops(depth, self.config.flow) for depth in depths)
        return ours, theirs

    def transferred(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        ours, theirs = self.stops
        return fsp_loss(
            _patches(student, ours, self.cell.student), _patches(teacher, theirs, self.teacher_architecture)
        )


def _stops(depth: int, flow: Flow) -> tuple[int, ...]:
    return (0, depth - 1) if flow == "ends" else (0, depth // 3, 2 * depth // 3, depth - 1)


def _patches(features: Features, blocks: Sequence[int], architecture: Architecture) -> list[Tensor]:
    return [patches_after(features, block, architecture) for block in blocks]
