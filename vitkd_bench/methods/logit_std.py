"""Logit standardisation: distil z-scores instead of logits (Sun et al., arXiv:2403.01427)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from vitkd_bench.contracts import Batch, Features, Method, taps
from vitkd_bench.methods._labels import label_loss_of
from vitkd_bench.methods._logits import logits_of, teacher_logits
from vitkd_bench.methods._precision import at_least_single
from vitkd_bench.methods.kd import kd_loss
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings

_EPS = 1e-7


def logit_std_loss(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 2.0) -> Tensor:
    """T^2 KL(teacher || student) of each sample's z-scores over classes, softened by T, in nats.

    Logits (B, K); summed over classes, mean over the batch. The z-score is (z - mean) / (1e-7 + deviation)
    with the deviation over K - 1. So a row may be shifted, and scaled by a positive factor: size of logits is
    not taught, their order and proportion are. A row of equal logits has z-scores 0. The teacher is detached.
    Source: arXiv:2403.01427; sunshangquan/logit-standardization-KD `mdistiller/distillers/KD.py`.
    """
    return kd_loss(_z_scores(student_logits), _z_scores(teacher_logits.detach()), temperature)


def _z_scores(logits: Tensor) -> Tensor:
    centred = at_least_single(logits)
    centred = centred - centred.mean(dim=-1, keepdim=True)
    freedom = max(centred.shape[-1] - 1, 1)  # of one class the deviation is 0, not 0 / 0
    deviation: Tensor = centred.norm(dim=-1, keepdim=True) / freedom**0.5
    return centred / (_EPS + deviation)


@METHODS.register(
    "logit_std",
    title="Distillation of standardised logits",
    kind="logit",
    paper="arXiv:2403.01427",
    needs=("logits",),
    budget="weight: 6 trials of {0, .9, 2.7, 9, 27, 90}; temperature: 3 trials of {2, 3, 4}; plus kd at "
    "the same share and temperature",
)
class StandardisedDistillation(Method):
    """labels x cross-entropy with labels + weight x T^2 KL of z-scores.

    The published weights, 9 against .1, are also a change of shares: `kd` with `alpha` 9 / 9.1 and the same
    temperature is the control that the paper lacks.
    """

    class Config(Settings):
        weight: float = Field(default=9.0, ge=0, description="of the distillation term")
        labels: float = Field(default=0.1, ge=0, description="weight of the label loss")
        temperature: float = Field(default=2.0, gt=0, description="divides both z-scores before the softmax")

    def teacher_taps(self) -> frozenset[str]:
        return frozenset({taps.LOGITS})

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        config, target = self.config, teacher_logits(teacher, self.cell)
        distilled = logit_std_loss(logits_of(student), target, temperature=config.temperature)
        labels = label_loss_of(student, batch)
        return {"labels": config.labels * labels, "logit_std": config.weight * distilled}
