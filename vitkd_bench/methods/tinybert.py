"""TinyBERT: hidden states, attention scores and soft labels (Jiao et al., arXiv:1909.10351)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vitkd_bench.contracts import Batch, CellFacts, Features, taps
from vitkd_bench.methods._feature_transfer import BlockSettings, BlockTransfer, architecture_of_teacher
from vitkd_bench.methods._layers import Layers
from vitkd_bench.methods._precision import in_full_precision
from vitkd_bench.methods._shared_tokens import common_tokens, keep, uncommon
from vitkd_bench.registry import METHODS

MASKED = -100.0  # a score from here down is one of a masked key


@in_full_precision
def tinybert_loss(
    student: Tensor,
    teacher: Tensor,
    student_scores: Tensor | None = None,
    teacher_scores: Tensor | None = None,
) -> Tensor:
    """Squared error of hidden states and of attention scores, of one pair of blocks.

    Hidden states (B, N, D), the student's already projected to the teacher's width; scores (B, H, N, N) are
    attention logits before the softmax, left out where not given. Each is a mean over all of its elements;
    the two are added. A score of -100 or less, which is that of a masked key, counts as 0. The teacher is
    detached. A constant added to a row of scores changes the loss, though the softmax does not see it.
    Source: arXiv:1909.10351, equations 7 and 8; huawei-noah/Pretrained-Language-Model
    TinyBERT/task_distill.py.
    """
    hidden = F.mse_loss(student, teacher.detach())
    if student_scores is None or teacher_scores is None:
        return hidden
    return hidden + F.mse_loss(_unmasked(student_scores), _unmasked(teacher_scores.detach()))


def _unmasked(scores: Tensor) -> Tensor:
    return scores.masked_fill(scores <= MASKED, 0)


@METHODS.register(
    "tinybert",
    title="TinyBERT (hidden states, scores, soft labels)",
    kind="feature",
    paper="arXiv:1909.10351",
    needs=("logits", "grid", "parameters"),
    budget="weight: 6 trials of {0, .1, .3, 1, 3, 10}; layers: {all, last:1}",
)
class TinyBERT(BlockTransfer, nn.Module):
    """(1 - kd) label loss + kd KL to the teacher + weight x the sum over blocks of `tinybert_loss`.

    One linear map, shared by all blocks as in the released code, takes the student's tokens to the teacher's
    width; it is trained from the first step on. Tokens are those that both sides have. The published soft
    cross-entropy is a mean over B x K, K times weaker than the KL that stands here. Published in two
    trainings, blocks first, then logits: here together, or one after the other by `blocks_first`. Published
    for depths that divide each other, and with a term on the embeddings, which no tap reads: left out.
    """

    name = "tinybert"

    class Config(BlockSettings):
        kd: float = Field(
            default=1.0,
            ge=0,
            le=1,
            description="share of the task loss that is kd at temperature 1; the labels keep 1 - kd",
        )
        layers: Layers = Field(default="all", description="blocks whose tokens and scores are compared")
        scores: bool = Field(
            default=True, description="whether attention scores are compared, which needs equal heads"
        )
        blocks_first: float = Field(
            default=0.0,
            ge=0,
            lt=1,
            description="share of the training, at its start, on blocks alone, the rest being on logits and "
            "labels alone; 0 for all at once",
        )

    def __init__(self, config: Config, cell: CellFacts) -> None:
        """Draw the map to the teacher's width."""
        super().__init__(config, cell)
        self.projector = nn.Linear(cell.student.size.width, self.teacher_architecture.size.width)

    @classmethod
    def refuses(cls, config: Config, cell: CellFacts) -> str | None:
        if why := super().refuses(config, cell):
            return why
        ours, theirs = cell.student.size.heads, architecture_of_teacher(cell).size.heads
        if config.scores and ours != theirs:
            return (
                f"heads differ: student {ours}, teacher {theirs}; tinybert compares scores head by head, "
                "scores: false leaves them out"
            )
        return None

    def student_taps(self) -> frozenset[str]:
        return super().student_taps() | self._scores_of(self.pairs)

    def teacher_taps(self) -> frozenset[str]:
        return super().teacher_taps() | self._scores_of(self.pairs.values())

    def _scores_of(self, blocks: Iterable[int]) -> frozenset[str]:
        return frozenset(map(taps.attention, blocks)) if self.config.scores else frozenset()

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        parts = super().loss(student, teacher, batch)
        if not self.config.blocks_first:
            return parts
        of_blocks = batch.progress < self.config.blocks_first
        return {name: part for name, part in parts.items() if (name == self.name) == of_blocks}

    def transferred(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        ours = common_tokens(self.cell.student, self.teacher_architecture)
        theirs = common_tokens(self.teacher_architecture, self.cell.student)
        parts = []
        for i, j in self.pairs.items():
            hidden = self.projector(keep(student.tokens[i], ours, 1)), keep(teacher.tokens[j], theirs, 1)
            scores = []
            if self.config.scores:
                calls = (student.attention[i], ours), (teacher.attention[j], theirs)
                scores = [keep(call.logits(), positions, 2, 3) for call, positions in calls]
            parts.append(tinybert_loss(*hidden, *scores))
        return torch.stack(parts).sum()

    def notes(self) -> tuple[str, ...]:
        return uncommon(self.cell.student, self.teacher_architecture)
