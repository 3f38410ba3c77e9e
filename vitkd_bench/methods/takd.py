"""Teacher assistant: distil into a network between the two first (Mirzadeh et al., arXiv:1902.03393)."""

from __future__ import annotations

from pydantic import Field, field_validator
from torch import Tensor

from vitkd_bench.contracts import Batch, CellFacts, Features, Method, TeacherRun, taps
from vitkd_bench.methods._labels import label_loss_of
from vitkd_bench.methods._logits import logits_of, teacher_logits
from vitkd_bench.methods.kd import kd_loss
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import SIZES, Settings, Size


def between(student: Size, teacher: Size) -> Size:
    """Give the size half-way: heads and depth rounded up, of the student's head width."""
    heads = -(-(student.heads + teacher.heads) // 2)
    depth = -(-(student.depth + teacher.depth) // 2)
    width = heads * (student.width // student.heads)
    return student.model_copy(update={"width": width, "depth": depth, "heads": heads})


def takd_loss(student_logits: Tensor, assistant_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Distillation term of one hop, T^2 KL(assistant || student) of logits (B, K), in nats: that of `kd`.

    Summed over classes, mean over the batch; the released code takes the mean over B K (train.py:95).
    """
    return kd_loss(student_logits, assistant_logits, temperature)


@METHODS.register(
    "takd",
    title="Distillation through an assistant",
    kind="logit",
    paper="arXiv:1902.03393",
    needs=("logits",),
    budget="as kd at each hop: alpha {.1, .3, .5, .7, .9, 1}, temperature {1, 2, 4}",
)
class AssistantDistillation(Method):
    """`kd` from the cell's teacher into an assistant, then `kd` from the assistant into the student.

    The assistant is a plain ViT with the student's components, trained first under the same recipe and seed:
    a preparation, with a record of its own. Between equal sizes it has that size too, which tells what the
    second hop does apart from what the size does.
    """

    class Config(Settings):
        assistant: str = Field(
            default="between",
            description="its size: a named one, or half-way between the two",
        )
        alpha: float = Field(
            default=0.5, ge=0, le=1, description="share of distillation at both hops; labels keep 1 - alpha"
        )
        temperature: float = Field(default=1.0, gt=0, description="divides logits before the softmax")

        @field_validator("assistant")
        @classmethod
        def _known(cls, assistant: str) -> str:
            if assistant != "between" and assistant not in SIZES:
                raise ValueError(f"expected between or a size, one of {', '.join(SIZES)}")
            return assistant

    @classmethod
    def teacher_run(cls, config: Config, cell: CellFacts) -> TeacherRun | None:
        if cell.teacher_architecture is None:
            return None
        size = SIZES.get(config.assistant) or between(cell.student.size, cell.teacher_architecture.size)
        hop = {"alpha": config.alpha, "temperature": config.temperature}
        return TeacherRun("kd", hop, student=cell.student.with_(size=size), reads="cell")

    def teacher_taps(self) -> frozenset[str]:
        return frozenset({taps.LOGITS})

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        target = teacher_logits(teacher, self.cell)
        distilled = takd_loss(logits_of(student), target, self.config.temperature)
        labels = label_loss_of(student, batch)
        return {"labels": (1 - self.config.alpha) * labels, "takd": self.config.alpha * distilled}
