"""Decoupled distillation: target and non-target classes weighted apart (Zhao et al., arXiv:2203.08679)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vitkd_bench.contracts import Batch, Features, Method, taps
from vitkd_bench.methods._labels import label_loss_of
from vitkd_bench.methods._logits import logits_of, other_logits, teacher_logits
from vitkd_bench.methods._precision import at_least_single
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings


def dkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    temperature: float = 1.0,
) -> Tensor:
    """T^2 (alpha TCKD + beta NCKD) of logits (B, K) and class indices (B,), in nats, mean over the batch.

    TCKD is KL(teacher || student) of the label's class against the rest, NCKD that among the K - 1 other
    classes, renormalised. A sample's KL over all classes is TCKD + (1 - p_t) NCKD with p_t the teacher's
    probability of the label, so alpha 1 and that share as beta give `kd_loss`. With one class there is
    nothing to tell apart and the loss is 0. The teacher is detached. Source: arXiv:2203.08679,
    section 3; megvii-research/mdistiller `distillers/DKD.py`, which takes the logarithm of a probability that
    can underflow to 0: here everything stays in logarithms.
    """
    if student_logits.shape[1] < 2:
        return 0 * student_logits.sum()
    s = at_least_single(student_logits) / temperature
    t = at_least_single(teacher_logits.detach()) / temperature
    target = F.kl_div(
        _against_rest(s, labels), _against_rest(t, labels), reduction="batchmean", log_target=True
    )
    others = F.kl_div(
        F.log_softmax(other_logits(s, labels), dim=1),
        F.log_softmax(other_logits(t, labels), dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return temperature**2 * (alpha * target + beta * others)


def _against_rest(logits: Tensor, labels: Tensor) -> Tensor:
    """Give the logarithms (B, 2) of the label's probability and of that of all other classes together."""
    own = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    margin = own - torch.logsumexp(other_logits(logits, labels), dim=1)
    return torch.stack([F.logsigmoid(margin), F.logsigmoid(-margin)], dim=1)


@METHODS.register(
    "dkd",
    title="Decoupled knowledge distillation",
    kind="logit",
    paper="arXiv:2203.08679",
    needs=("logits", "plain_labels"),
    budget="beta: 6 trials of {0, .1, .3, 1, 3, 10} at alpha 1; temperature: 3 trials of {1, 2, 4}",
)
class DecoupledDistillation(Method):
    """Cross-entropy with labels + ramp x T^2 (alpha TCKD + beta NCKD).

    The ramp is min(epoch / warmup, 1) with epochs counted from 1, as in the released code. The paper tunes
    beta for every pair (2, 6 or 8 on CIFAR, .5 or 2 on ImageNet): in a comparison beta has one grid.
    Labels are class indices. A mixed label has no single target class: it would need the target term
    over three events (first class, second class, rest) and the non-target term among the others.
    """

    class Config(Settings):
        alpha: float = Field(default=1.0, ge=0, description="of the target-class term")
        beta: float = Field(default=1.0, ge=0, description="of the non-target-class term")
        temperature: float = Field(default=1.0, gt=0, description="divides both logits before the softmax")
        warmup_epochs: float = Field(
            default=1.0, gt=0, description="epochs over which the term rises to its full weight; 1 is none"
        )

    def teacher_taps(self) -> frozenset[str]:
        return frozenset({taps.LOGITS})

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        config = self.config
        distilled = dkd_loss(
            logits_of(student),
            teacher_logits(teacher, self.cell),
            batch.labels,
            alpha=config.alpha,
            beta=config.beta,
            temperature=config.temperature,
        )
        ramp = min((batch.epoch + 1) / config.warmup_epochs, 1.0)
        return {"labels": label_loss_of(student, batch), "dkd": ramp * distilled}
