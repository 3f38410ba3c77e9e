"""Squared error of probabilities: model compression in its modern form (Bucila et al., KDD 2006)."""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vitkd_bench.contracts import Batch, Features, Method, taps
from vitkd_bench.methods._labels import label_loss_of
from vitkd_bench.methods._logits import logits_of, teacher_logits
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings


def prob_mse_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Squared difference of the softmax probabilities of logits (B, K), mean over batch and classes.

    Between 0 and 2 / K, without unit. The teacher is detached. The gradient passes through the student's
    softmax and so vanishes where that is saturated, right or wrong: `logit_mse` has no such plateau. Source:
    our own form of Bucila, Caruana and Niculescu-Mizil, KDD 2006, whose student regresses the ensemble's
    predictions.
    """
    return F.mse_loss(F.softmax(student_logits, dim=-1), F.softmax(teacher_logits.detach(), dim=-1))


@METHODS.register(
    "prob_mse",
    title="Squared error of probabilities",
    kind="logit",
    paper="Bucila et al., KDD 2006 (the idea; this form is our own)",
    needs=("logits",),
    budget="weight: 6 trials of {0, 1, 3, 10, 30, 100}",
)
class ProbabilityRegression(Method):
    """Cross-entropy with labels + weight x mean squared difference of probabilities.

    The mean runs over classes too, so that the gradient falls as 1 / K: a data set of many classes wants a
    larger weight. The paper trains on the teacher's outputs alone, on data without labels; here labels stay,
    as in the other methods.
    """

    class Config(Settings):
        weight: float = Field(
            default=10.0, ge=0, description="of the squared error, against a label loss of weight 1"
        )

    def teacher_taps(self) -> frozenset[str]:
        return frozenset({taps.LOGITS})

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        distance = prob_mse_loss(logits_of(student), teacher_logits(teacher, self.cell))
        return {"labels": label_loss_of(student, batch), "prob_mse": self.config.weight * distance}
