"""Hard distillation: learn the class that the teacher predicts (Touvron et al., arXiv:2012.12877)."""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vitkd_bench.contracts import Batch, Features, Method, taps
from vitkd_bench.methods._labels import label_loss_of
from vitkd_bench.methods._logits import logits_of, teacher_logits
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings


def hard_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Cross-entropy of logits (B, K) with the teacher's predicted class, in nats, mean over the batch.

    Of equal logits the teacher's first counts. Nothing is smoothed and no temperature enters. Source:
    arXiv:2012.12877, section 4, equation 3.
    """
    return F.cross_entropy(student_logits, teacher_logits.detach().argmax(dim=-1))


@METHODS.register(
    "hard",
    title="Hard distillation",
    kind="logit",
    paper="arXiv:2012.12877",
    needs=("logits",),
    budget="alpha: 6 trials of {.1, .3, .5, .7, .9, 1}",
)
class HardDistillation(Method):
    """(1 - alpha) cross-entropy with labels + alpha cross-entropy with the teacher's class, on one head.

    The recipe's label smoothing acts on the true labels alone, as in the released code. The paper's
    comparison with soft distillation gave the two different weights: hard one half, soft one tenth, and the
    soft term was divided by the classes too. Here both follow one grid.
    """

    class Config(Settings):
        alpha: float = Field(
            default=0.5, ge=0, le=1, description="share of the teacher's class; the labels keep 1 - alpha"
        )

    def teacher_taps(self) -> frozenset[str]:
        return frozenset({taps.LOGITS})

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        predicted = hard_loss(logits_of(student), teacher_logits(teacher, self.cell))
        labels = label_loss_of(student, batch)
        return {"labels": (1 - self.config.alpha) * labels, "hard": self.config.alpha * predicted}
