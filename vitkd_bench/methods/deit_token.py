"""Distillation token: one more token and head, for the teacher (Touvron et al., arXiv:2012.12877)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from vitkd_bench.contracts import Batch, CellFacts, Features, Method, Network, taps
from vitkd_bench.methods._labels import label_loss_of
from vitkd_bench.methods._logits import logits_of, teacher_logits
from vitkd_bench.methods._stages import embed, stages
from vitkd_bench.methods.hard import hard_loss
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings

Fusion = Literal["logits", "probabilities"]
_STD = 0.02


def deit_token_loss(token_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Cross-entropy of the token's logits (B, K) with the teacher's predicted class, in nats, batch mean.

    That is `hard_loss`, on a head of its own. The teacher is detached. Source: arXiv:2012.12877, section 4.
    """
    return hard_loss(token_logits, teacher_logits)


def fused(logits: Tensor, token_logits: Tensor, fusion: Fusion = "logits") -> Tensor:
    """Average two heads' outputs (B, K): their logits, or their probabilities, whose logarithm is given."""
    if fusion == "logits":
        return (logits + token_logits) / 2
    both = torch.stack([logits.log_softmax(dim=-1), token_logits.log_softmax(dim=-1)])
    return both.logsumexp(dim=0) - math.log(2)


class DistillationToken(nn.Module):
    """A token (D,) and the head that reads it; called at the end of a student's forward, it fuses both heads.

    Drawn from torch's global stream: the token and, but for micro students, the head's weight from a normal
    of deviation .02 cut at +-2, as in facebookresearch/deit `models.py`; micro students' linear weights are
    Xavier uniform (recipes with `initialisation: small`), this one too.
    """

    def __init__(self, width: int, classes: int, fusion: Fusion, law: str) -> None:
        super().__init__()
        self.fusion: Fusion = fusion
        self.token = nn.Parameter(nn.init.trunc_normal_(torch.empty(width), std=_STD))
        self.head = nn.Linear(width, classes)
        nn.init.zeros_(self.head.bias)
        if law == "small":
            nn.init.xavier_uniform_(self.head.weight)
        else:
            nn.init.trunc_normal_(self.head.weight, std=_STD)

    def forward(self, logits: Tensor, state: Tensor) -> Tensor:
        """Fuse the student's logits (B, K) with those that the head reads from the token's state (B, D)."""
        return fused(logits, self.head(state), self.fusion)


@METHODS.register(
    "deit_token",
    title="Distillation token (DeiT)",
    kind="logit",
    paper="arXiv:2012.12877",
    needs=("logits", "parameters"),
    budget="alpha: 6 trials of {.1, .3, .5, .7, .9, 1}; fusion: {logits, probabilities}",
)
class DistillationTokenMethod(Method):
    """(1 - alpha) cross-entropy of the head with labels + alpha that of the token's head with the teacher.

    The token and its head become part of the student before training, are trained and kept with it, and
    decide with it at test: its logits are then the mean of both heads. (The released code averages logits;
    the paper's text adds probabilities: `fusion`.) The token passes through the same last norm as the
    pooled patches, which here stand in the class token's place. Its position embedding is part of its value.
    Label smoothing acts on the true labels alone.

    The student so has one token and one head more than that of every other method. `target: labels` is the
    control for that: the same student, both heads on the true labels.
    """

    class Config(Settings):
        alpha: float = Field(default=0.5, ge=0, le=1, description="share of the token's part of the loss")
        fusion: Fusion = Field(
            default="logits", description="what of the two heads is averaged at test: logits or probabilities"
        )
        target: Literal["teacher", "labels"] = Field(
            default="teacher", description="what the token learns; labels is the control without a teacher"
        )

    def __init__(self, config: Config, cell: CellFacts) -> None:
        """Draw the token and its head; the student takes them in `fit`."""
        super().__init__(config, cell)
        law = cell.recipe.initialisation if cell.recipe else "timm"
        self.token = DistillationToken(cell.student.size.width, len(cell.dataset.classes), config.fusion, law)

    @classmethod
    def refuses(cls, config: Config, cell: CellFacts) -> str | None:
        if cell.student.components.relative_position_bias:
            return (
                "deit_token adds a token to the student, whose relative position table has no place for it; "
                "a student without relative_position_bias has"
            )
        return None

    def teacher_taps(self) -> frozenset[str]:
        return frozenset({taps.LOGITS} if self.config.target == "teacher" else ())

    def fit(self, student: Network, teacher: Network | None, batches: Iterable[Batch]) -> None:
        """Give the student its token."""
        device = next(student.module.parameters()).device
        student.module.distillation = self.token.to(device)

    def step(self, student: Network, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        vit, before = stages(student), student.architecture.prefix
        tokens = vit.encode(embed(student, batch.pixels))
        own = Features(logits=vit.head(vit.pool(tokens)))
        of_token = Features(logits=self.token.head(vit.fc_norm(tokens[:, before])))
        alpha = self.config.alpha
        return {
            "labels": (1 - alpha) * label_loss_of(own, batch),
            "deit_token": alpha * self._of_token(of_token, teacher, batch),
        }

    def _of_token(self, token: Features, teacher: Features | None, batch: Batch) -> Tensor:
        if self.config.target == "labels":
            return label_loss_of(token, batch)
        return deit_token_loss(logits_of(token), teacher_logits(teacher, self.cell))

    def scored(self) -> str:
        return f"the mean of both heads' {self.config.fusion}"

    def notes(self) -> tuple[str, ...]:
        count = sum(parameter.numel() for parameter in self.token.parameters())
        added = f"the student has a distillation token and a second head, {count} weights"
        return (f"{added}; its output is the mean of both heads' {self.config.fusion}",)
