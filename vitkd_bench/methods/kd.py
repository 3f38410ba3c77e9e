"""Knowledge distillation: match the teacher's softened probabilities (Hinton et al., arXiv:1503.02531)."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vitkd_bench.contracts import Batch, Features, Method, taps
from vitkd_bench.methods._labels import label_loss_of
from vitkd_bench.methods._logits import logits_of, teacher_logits
from vitkd_bench.methods._precision import at_least_single
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings


def kd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 1.0,
    *,
    direction: Literal["forward", "reverse"] = "forward",
) -> Tensor:
    """Distillation term: T^2 KL(teacher || student) of logits (B, K) softened by T, in nats.

    Summed over classes, mean over the batch (some public code divides by B K instead: K times too weak).
    The teacher is detached. The gradient on a row of the student's logits is T (p_s - p_t) / B, so that its
    size stays comparable as T grows. `reverse` is T^2 KL(student || teacher), which a student too small for
    all of the teacher's modes meets by keeping some of them. Source: Hinton et al., section 2.1; reduction as
    `batchmean` of torch.
    """
    log_student = F.log_softmax(at_least_single(student_logits) / temperature, dim=-1)
    log_teacher = F.log_softmax(at_least_single(teacher_logits.detach()) / temperature, dim=-1)
    guess, target = (log_student, log_teacher) if direction == "forward" else (log_teacher, log_student)
    return temperature**2 * F.kl_div(guess, target, reduction="batchmean", log_target=True)


@METHODS.register(
    "kd",
    title="Knowledge distillation (logits)",
    kind="logit",
    paper="arXiv:1503.02531",
    needs=("logits",),
    budget="alpha: 6 trials of {.1, .3, .5, .7, .9, 1}; temperature: 3 trials of {1, 2, 4}; direction: "
    "{forward, reverse}",
)
class KnowledgeDistillation(Method):
    """(1 - alpha) cross-entropy with labels + alpha T^2 KL to the teacher, over the cell's classes.

    A teacher that knows more classes than the data set has its logits restricted to those of the data set
    before the softmax. A teacher without a head, or whose head lacks one of the classes, is refused.
    """

    class Config(Settings):
        alpha: float = Field(
            default=0.5, ge=0, le=1, description="share of the distillation term; the labels keep 1 - alpha"
        )
        temperature: float = Field(
            default=1.0, gt=0, description="divides both logits before the softmax; 1 is usual for ViTs"
        )
        direction: Literal["forward", "reverse"] = Field(
            default="forward", description="KL of the teacher from the student, or the other way round"
        )

    def teacher_taps(self) -> frozenset[str]:
        return frozenset({taps.LOGITS})

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        target = teacher_logits(teacher, self.cell)
        distilled = kd_loss(
            logits_of(student), target, self.config.temperature, direction=self.config.direction
        )
        labels = label_loss_of(student, batch)
        return {"labels": (1 - self.config.alpha) * labels, "kd": self.config.alpha * distilled}
