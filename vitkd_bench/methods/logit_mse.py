"""Logit regression: match the teacher's logits by squared error (Ba and Caruana, arXiv:1312.6184)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from vitkd_bench.contracts import Batch, Features, Method, taps
from vitkd_bench.methods._labels import label_loss_of
from vitkd_bench.methods._logits import logits_of, teacher_logits
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings


def logit_mse_loss(student_logits: Tensor, teacher_logits: Tensor, *, centre: bool = False) -> Tensor:
    """Squared difference of logits (B, K), mean over batch and classes, in squared nats.

    The paper's own form is half the sum over classes: K / 2 times this. `centre` takes each row's mean away
    on both sides, since a constant added to a row changes no probability; the centred form is twice the
    limit of T^2 KL as T grows (Hinton et al., arXiv:1503.02531, section 2.1). The teacher is detached.
    Source: arXiv:1312.6184.
    """
    difference = student_logits - teacher_logits.detach()
    if centre:
        difference = difference - difference.mean(dim=-1, keepdim=True)
    return difference.square().mean()


@METHODS.register(
    "logit_mse",
    title="Squared error of logits",
    kind="logit",
    paper="arXiv:1312.6184",
    needs=("logits",),
    budget="weight: 6 trials of {0, .05, .15, .5, 1.5, 5}; centre: {off, on}",
)
class LogitRegression(Method):
    """Cross-entropy with labels + weight x mean squared difference of logits.

    The paper trains without labels. Uncentred, the student spends capacity on a row's offset, which no
    prediction depends on; `centre` leaves it free.
    """

    class Config(Settings):
        weight: float = Field(
            default=0.5, ge=0, description="of the squared error, against a label loss of weight 1"
        )
        centre: bool = Field(
            default=False, description="compare logits less their mean over classes; off is the paper's"
        )

    def teacher_taps(self) -> frozenset[str]:
        return frozenset({taps.LOGITS})

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        target = teacher_logits(teacher, self.cell)
        distance = logit_mse_loss(logits_of(student), target, centre=self.config.centre)
        return {"labels": label_loss_of(student, batch), "logit_mse": self.config.weight * distance}
