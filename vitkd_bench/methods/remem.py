"""ReMem, our reading: distil from a teacher fine-tuned to say more of its input (after arXiv:2506.23041)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from pydantic import Field
from torch import Tensor

from vitkd_bench.contracts import Batch, CellFacts, Features, Method, Network, TeacherRun, taps
from vitkd_bench.methods._labels import label_loss_of
from vitkd_bench.methods._logits import logits_of, teacher_logits
from vitkd_bench.methods.finetune_sam import Branch, End
from vitkd_bench.methods.kd import kd_loss
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings


def remem_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Distillation term, T^2 KL(teacher || student) of logits (B, K), in nats: that of `kd`.

    Summed over classes, mean over the batch. What is ReMem's is the teacher, not the loss.
    """
    return kd_loss(student_logits, teacher_logits, temperature)


@METHODS.register(
    "remem",
    title="ReMem (our reading: SAM and re-weighted MLPs)",
    kind="teacher",
    paper="after arXiv:2506.23041, our own reading",
    budget="gamma: {.25, .5, .75, 1}; share: {.25, .5}; rho: {.02, .05, .1}; alpha and temperature as kd",
)
class FineTunedTeacher(Method):
    """`kd` from the cell's teacher after it was fine-tuned on the cell's data, by our reading of ReMem.

    Of the paper only abstract and introduction were at hand: they blame a low mutual information between the
    input and what a strong teacher says of it, most of it lost in the upper MLP blocks. That the remedy is
    sharpness-aware fine-tuning with re-weighted MLP blocks is told by others; factor, blocks and radius are
    ours, and so numbers of this method are none of the paper's. The teacher is a run of `finetune_sam`
    under the cell's recipe and seed, with a record of its own; a teacher without a head gets one by it.

    Both flat minima and smaller MLPs soften what the teacher says. The controls are settings: the same
    teacher fine-tuned plainly, under temperatures (`rho: 0, gamma: 1`, `temperature: {1, 2, 4}`); a plainly
    fine-tuned one stopped where it is as accurate (`teacher_epochs`, by the top-1 in the records of the
    teachers); attention in the place of the MLP (`branch: attention`), the first blocks in the place of the
    last (`end: first`).
    """

    class Config(Settings):
        alpha: float = Field(
            default=0.5, ge=0, le=1, description="share of the distillation term; the labels keep 1 - alpha"
        )
        temperature: float = Field(default=1.0, gt=0, description="divides both logits before the softmax")
        rho: float = Field(default=0.05, ge=0, description="radius of the teacher's sharpness-aware steps")
        gamma: float = Field(default=0.5, ge=0, le=1, description="scale of the branch that is re-weighted")
        branch: Branch = Field(default="mlp", description="branch that is re-weighted")
        share: float = Field(default=0.25, gt=0, le=1, description="of the teacher's blocks in which it is")
        end: End = Field(default="last", description="end of the teacher at which these blocks are")
        teacher_epochs: int | None = Field(
            default=None, ge=1, description="of its fine-tuning; none: as many as the recipe has"
        )

    entropy: float | None = None

    @classmethod
    def refuses(cls, config: Config, cell: CellFacts) -> str | None:
        return None if cell.teacher_architecture else "remem needs a teacher"

    @classmethod
    def teacher_run(cls, config: Config, cell: CellFacts) -> TeacherRun | None:
        if cell.teacher_architecture is None:
            return None
        names = ("rho", "gamma", "branch", "share", "end")
        settings = {name: getattr(config, name) for name in names}
        return TeacherRun(
            "finetune_sam",
            settings,
            student=cell.teacher_architecture,
            reads="cell",
            epochs=config.teacher_epochs,
        )

    def teacher_taps(self) -> frozenset[str]:
        return frozenset({taps.LOGITS})

    def fit(self, student: Network, teacher: Network | None, batches: Iterable[Batch]) -> None:
        """Measure how soft the teacher is on the training images: what a temperature would do as well."""
        if teacher is None:
            raise TypeError("remem reads a fine-tuned teacher, and none was given")
        found = []
        with torch.no_grad():
            for batch in batches:
                logits = teacher_logits(teacher(batch.for_teacher, self.teacher_taps()), self.cell)
                found.append(torch.special.entr(logits.double().softmax(dim=-1)).sum(dim=-1))
                teacher.clear()
        self.entropy = torch.cat(found).mean().item()

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        target = teacher_logits(teacher, self.cell)
        distilled = remem_loss(logits_of(student), target, self.config.temperature)
        labels = label_loss_of(student, batch)
        return {"labels": (1 - self.config.alpha) * labels, "remem": self.config.alpha * distilled}

    def notes(self) -> tuple[str, ...]:
        if self.entropy is None:
            return ()
        return (f"the teacher's entropy on training images without augmentation: {self.entropy:.4f} nats",)
