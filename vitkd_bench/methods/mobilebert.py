"""MobileBERT: match tokens and attention maps block by block (arXiv:2004.02984)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vitkd_bench.attention import AttentionCall, attention_distillation
from vitkd_bench.contracts import Batch, CellFacts, Features, Network, taps
from vitkd_bench.methods._block_matching import refuse_unpaired
from vitkd_bench.methods._feature_transfer import FeatureTransfer, TransferSettings
from vitkd_bench.methods._pairing import left_out, maps_differ, teacher_calls
from vitkd_bench.methods._precision import at_least_single
from vitkd_bench.methods._tokens import patches_after
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Architecture


def mobilebert_loss(
    student: Sequence[tuple[Tensor, AttentionCall]], teacher: Sequence[tuple[Tensor, AttentionCall]]
) -> Tensor:
    """Tokens' squared difference plus KL(teacher || student) of attention maps in nats, summed over blocks.

    Each block is its tokens (B, N, D) and its attention call, maps (B, H, M, M), paired by position. The
    squared difference is the mean over every element, KL the sum over keys and the mean over batch, heads
    and queries. The teacher is detached; maps are not made where they are large. Source: section 3.3
    (feature map transfer, attention transfer).

    Raises:
        ValueError: no block, or another number on the other side.
    """
    refuse_unpaired(student, teacher)
    blocks = []
    for (ours, call), (theirs, target) in zip(student, teacher, strict=True):
        tokens = F.mse_loss(at_least_single(ours), at_least_single(theirs.detach()))
        blocks.append(tokens + attention_distillation(call, target, loss="kl"))
    return torch.stack(blocks).sum()


@METHODS.register(
    "mobilebert",
    title="Tokens and attention maps of every block (MobileBERT)",
    kind="feature",
    paper="arXiv:2004.02984",
    needs=("depth", "heads", "width", "grid"),
    budget="weight: 6 trials of 0 and {.1, .3, 1, 3, 10}; transfer: {auxiliary, progressive}",
)
class MobileBERT(FeatureTransfer):
    """(1 - kd) label loss + kd KL + weight x the sum over blocks of tokens' and maps' differences.

    Published for text, without a figure for images: a teacher shaped so that its blocks fit the student's,
    hence equal depth, heads and width. `auxiliary` keeps all terms throughout. `progressive`: for the first
    `transfer_share` of the training one block after the other learns alone, without labels, what is below it
    frozen (the paper also tries a small rate there); then the task loss alone. Where the task loss is not
    trained on it is absent from the parts. Tokens matched: the patches and, where both have one, the class
    token; registers are left out. The raw tokens of a ViT have no norm behind them: a few channels of large
    teachers outweigh all others.
    """

    name = "mobilebert"

    class Config(TransferSettings):
        transfer: Literal["auxiliary", "progressive"] = Field(
            default="auxiliary", description="all terms together, or block after block and then the task"
        )
        transfer_share: float = Field(
            default=0.5, gt=0, lt=1, description="of the training that progressive transfer takes"
        )

    @classmethod
    def refuses(cls, config: Config, cell: CellFacts) -> str | None:
        return super().refuses(config, cell) or maps_differ("all", cell)

    def student_taps(self) -> frozenset[str]:
        blocks = range(self.cell.student.size.depth)
        return frozenset(name for i in blocks for name in (taps.tokens(i), taps.attention(i)))

    def teacher_taps(self) -> frozenset[str]:
        return super().teacher_taps() | self.student_taps()

    def stage(self, progress: float) -> int | None:
        """The block that learns alone at this share of the training, or None where everything learns."""
        share, depth = self.config.transfer_share, self.cell.student.size.depth
        if self.config.transfer == "auxiliary" or progress >= share:
            return None
        return min(int(progress / share * depth), depth - 1)

    def step(self, student: Network, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        if self.config.transfer == "progressive":
            _train_from(student, self.stage(batch.progress) or 0)
        return super().step(student, teacher, batch)

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        if teacher is None or self.config.transfer == "auxiliary":
            return super().loss(student, teacher, batch)
        if self.stage(batch.progress) is None:
            return self.task(student, teacher, batch)
        return {self.name: self.config.weight * self.transferred(student, teacher, batch)}

    def transferred(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        stage = self.stage(batch.progress)
        blocks = tuple(range(self.cell.student.size.depth)) if stage is None else (stage,)
        targets = teacher_calls(teacher, blocks, self.cell)
        return mobilebert_loss(
            [(self._tokens(student, i, self.cell.student), student.attention[i]) for i in blocks],
            [(self._tokens(teacher, i, self.teacher_architecture), targets[i]) for i in blocks],
        )

    def _tokens(self, features: Features, block: int, architecture: Architecture) -> Tensor:
        patches = patches_after(features, block, architecture)
        if not self.cell.student.class_token:
            return patches
        return torch.cat([features.tokens[block][:, :1], patches], dim=1)

    def notes(self) -> tuple[str, ...]:
        return left_out(self.cell)


def _train_from(student: Network, first: int) -> None:
    """Freeze what comes before block `first`, nothing for 0; what has no gradient is not decayed either."""
    for name, parameter in student.module.named_parameters():
        if not name.startswith(("blocks.", "fc_norm", "head")):
            parameter.requires_grad_(first == 0)
    for index, block in enumerate(student.blocks):
        block.requires_grad_(index >= first)
