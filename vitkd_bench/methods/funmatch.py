"""Function matching: the teacher's output on the same view, no labels (Beyer et al., arXiv:2106.05237)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from vitkd_bench.contracts import Batch, Features, Method, taps
from vitkd_bench.methods._logits import logits_of, teacher_logits
from vitkd_bench.methods.kd import kd_loss
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings


def funmatch_loss(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    """T^2 KL(teacher || student) of logits (B, K), in nats: `kd_loss`, and all of the loss.

    Source: arXiv:2106.05237; google-research/big_vision `configs/proj/distill`.
    """
    return kd_loss(student_logits, teacher_logits, temperature)


@METHODS.register(
    "funmatch",
    title="Function matching (no labels)",
    kind="logit",
    paper="arXiv:2106.05237",
    needs=("logits",),
    budget="0 for a weight, there is none; temperature: 3 trials of {1, 2, 5}; epochs x 1, x 3",
)
class FunctionMatching(Method):
    """T^2 KL to the teacher, nothing else; labels are not read.

    Teacher and student see the same crop here in every method. What the paper adds is a recipe: mixup as
    strong as it gets, the same for both, and a schedule of hundreds to thousands of epochs. Under a recipe
    without these it trains what `kd` trains at `alpha` 1.
    """

    class Config(Settings):
        temperature: float = Field(default=1.0, gt=0, description="divides both logits before the softmax")

    def teacher_taps(self) -> frozenset[str]:
        return frozenset({taps.LOGITS})

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        target = teacher_logits(teacher, self.cell)
        return {"funmatch": funmatch_loss(logits_of(student), target, temperature=self.config.temperature)}
