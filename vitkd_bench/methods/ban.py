"""Born-again networks: taught by an earlier generation of itself (Furlanello et al., arXiv:1805.04770)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from vitkd_bench.contracts import Batch, CellFacts, Features, Method, TeacherRun, taps
from vitkd_bench.methods._labels import label_loss_of
from vitkd_bench.methods._logits import logits_of, teacher_logits
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings


def ban_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Cross-entropy -sum_k p_t log p_s of logits (B, K) at temperature 1, in nats; its floor is H(p_t).

    Mean over the batch; the teacher is detached. Source: arXiv:1805.04770, section 3.
    """
    target = teacher_logits.detach().softmax(dim=-1)
    return -(target * student_logits.log_softmax(dim=-1)).sum(dim=-1).mean()


@METHODS.register(
    "ban",
    title="Born-again network",
    kind="logit",
    paper="arXiv:1805.04770",
    reads_teacher=False,
    budget="generations: {1, 2}; label_weight: {0, .5, 1}",
)
class BornAgain(Method):
    """Cross-entropy to an earlier generation of the same student; the first was trained from labels (`none`).

    Every generation is trained under the cell's recipe and seed, as a preparation with a record of its own.
    The cell's teacher is not read. With `label_weight` 0 labels enter through the first generation alone.
    """

    floors = {"ban": "teacher"}

    class Config(Settings):
        generations: int = Field(default=1, ge=1, description="how often the student is born again")
        label_weight: float = Field(default=1.0, ge=0, description="of the labels beside the soft targets")

    @classmethod
    def teacher_run(cls, config: Config, cell: CellFacts) -> TeacherRun | None:
        if config.generations == 1:
            return TeacherRun("none")
        earlier = cls.Config(generations=config.generations - 1, label_weight=config.label_weight)
        before = cls.teacher_run(earlier, cell)
        return TeacherRun("ban", earlier.plain(), reads=before or "nothing")

    def teacher_taps(self) -> frozenset[str]:
        return frozenset({taps.LOGITS})

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        soft = ban_loss(logits_of(student), teacher_logits(teacher, self.cell))
        return {"labels": self.config.label_weight * label_loss_of(student, batch), "ban": soft}
