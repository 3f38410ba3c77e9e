"""Normalised distillation: the teacher's target term, and its other classes normalised (arXiv:2303.13005)."""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vitkd_bench.contracts import Batch, Features, Method, taps
from vitkd_bench.methods._labels import label_loss_of, larger_class
from vitkd_bench.methods._logits import logits_of, other_logits, teacher_logits
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings


def nkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    gamma: float = 1.0,
    temperature: float = 1.0,
) -> Tensor:
    """-p_t log p_s of the label + gamma T^2 cross-entropy among the other classes, in nats, batch mean.

    Logits (B, K), class indices (B,). The target term is taken at temperature 1; the other classes are
    renormalised on both sides, at `temperature`. Both are cross-entropies: the loss does not vanish where
    student and teacher agree. With one class it is 0. The teacher is detached. Source: arXiv:2303.13005;
    yzd-v/cls_KD `mmcls/models/dis_losses/nkd.py`.
    """
    teacher = teacher_logits.detach()
    own = labels.unsqueeze(1)
    log_student = F.log_softmax(student_logits, dim=1).gather(1, own)
    target = -(F.softmax(teacher, dim=1).gather(1, own) * log_student).mean()
    log_others = F.log_softmax(other_logits(student_logits, labels) / temperature, dim=1)
    of_teacher = F.softmax(other_logits(teacher, labels) / temperature, dim=1)
    others = -(of_teacher * log_others).sum(dim=1).mean()
    return target + gamma * temperature**2 * others


@METHODS.register(
    "nkd",
    title="Normalised knowledge distillation",
    kind="logit",
    paper="arXiv:2303.13005",
    needs=("logits",),
    budget="gamma: 6 trials of {0, .1, .3, 1, 3, 10}; temperature: 3 trials of {1, 2, 3}",
)
class NormalisedDistillation(Method):
    """Cross-entropy with labels + the target term + gamma x the non-target term.

    The released DeiT configuration switches a feature loss on beside it; here there is none. Of a mixed
    label the distillation takes the larger part alone, as the released code does, the label loss both.
    """

    floors = {"nkd": "teacher"}

    class Config(Settings):
        gamma: float = Field(default=1.0, ge=0, description="of the non-target term; 1 for ViTs")
        temperature: float = Field(
            default=1.0, gt=0, description="divides the logits of the non-target term alone"
        )

    def teacher_taps(self) -> frozenset[str]:
        return frozenset({taps.LOGITS})

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        distilled = nkd_loss(
            logits_of(student),
            teacher_logits(teacher, self.cell),
            larger_class(batch),
            gamma=self.config.gamma,
            temperature=self.config.temperature,
        )
        return {"labels": label_loss_of(student, batch), "nkd": distilled}
