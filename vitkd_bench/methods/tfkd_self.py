"""Teacher-free distillation, self-training form: an earlier self teaches (Yuan et al., arXiv:1909.11723)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from vitkd_bench.contracts import Batch, CellFacts, Features, Method, TeacherRun, taps
from vitkd_bench.methods._labels import label_loss_of
from vitkd_bench.methods._logits import logits_of, teacher_logits
from vitkd_bench.methods.kd import kd_loss
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings


def tfkd_self_loss(student_logits: Tensor, earlier_logits: Tensor, temperature: float = 20.0) -> Tensor:
    """T^2 KL(earlier self || student) of logits (B, K), in nats: the distillation term of `kd`.

    Summed over classes, mean over the batch; the released code takes the mean over B K and a multiplier
    instead (my_loss_function.py:14-27).
    """
    return kd_loss(student_logits, earlier_logits, temperature)


@METHODS.register(
    "tfkd_self",
    title="Teacher-free distillation (an earlier self)",
    kind="logit",
    paper="arXiv:1909.11723",
    reads_teacher=False,
    budget="alpha: {.1, .3, .5, .7, .9, .95}; temperature: {1, 4, 20}",
)
class SelfDistillation(Method):
    """(1 - alpha) cross-entropy with labels + alpha T^2 KL to the same student as labels alone trained it.

    The earlier self is the run of `none` of the same seed, kept as a preparation. The cell's teacher is not
    read. Published settings differ by model (temperature 10 to 40, alpha .1 to .95).
    """

    class Config(Settings):
        alpha: float = Field(
            default=0.1, ge=0, le=1, description="share of the distillation term; the labels keep 1 - alpha"
        )
        temperature: float = Field(default=20.0, gt=0, description="divides both logits before the softmax")

    @classmethod
    def teacher_run(cls, config: Config, cell: CellFacts) -> TeacherRun | None:
        return TeacherRun("none")

    def teacher_taps(self) -> frozenset[str]:
        return frozenset({taps.LOGITS})

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        earlier = teacher_logits(teacher, self.cell)
        distilled = tfkd_self_loss(logits_of(student), earlier, self.config.temperature)
        labels = label_loss_of(student, batch)
        return {"labels": (1 - self.config.alpha) * labels, "tfkd_self": self.config.alpha * distilled}
