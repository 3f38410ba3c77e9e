"""Knowledge distillation: match the teacher's softened probabilities (Hinton et al., arXiv:1503.02531)."""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vitkd_bench.contracts import Batch, Features, Method, taps
from vitkd_bench.methods._labels import label_loss_of
from vitkd_bench.methods._logits import logits_of, teacher_logits
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings


def kd_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Distillation term: T^2 KL(teacher || student) of logits (B, K) softened by T, in nats.

    Summed over classes, mean over the batch (some public code divides by B K instead: K times too weak).
    The teacher is detached. The gradient on a row of the student's logits is T (p_s - p_t) / B, so that its
    size stays comparable as T grows. Source: Hinton et al., section 2.1; reduction as `batchmean` of torch.
    """
    log_student = F.log_softmax(student_logits / temperature, dim=-1)
    log_teacher = F.log_softmax(teacher_logits.detach() / temperature, dim=-1)
    return temperature**2 * F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)


@METHODS.register(
    "kd",
    title="Knowledge distillation (logits)",
    kind="logit",
    paper="arXiv:1503.02531",
    needs=("logits",),
    budget="alpha: 6 trials of {.1, .3, .5, .7, .9, 1}; temperature: 3 trials of {1, 2, 4}",
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

    def teacher_taps(self) -> frozenset[str]:
        return frozenset({taps.LOGITS})

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        target = teacher_logits(teacher, self.cell)
        distilled = kd_loss(logits_of(student), target, self.config.temperature)
        labels = label_loss_of(student, batch)
        return {"labels": (1 - self.config.alpha) * labels, "kd": self.config.alpha * distilled}
