"""Sparse distillation: from a few stored outputs of the teacher (TinyViT, Wu et al., arXiv:2207.10666)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from vitkd_bench.contracts import Batch, CellFacts, Features, Method, TeacherRun, taps
from vitkd_bench.methods._logits import logits_of, teacher_logits
from vitkd_bench.methods._precision import at_least_single
from vitkd_bench.methods.stored_outputs import largest, spread
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings


def sparse_kd_loss(student_logits: Tensor, teacher_logits: Tensor, *, k: int = 10) -> Tensor:
    """Cross-entropy of logits (B, K) with the teacher's k largest probabilities, in nats, at temperature 1.

    What these leave of the mass is spread evenly over the other K - k classes; with k of K or more it is the
    plain soft cross-entropy. Summed over classes, mean over the batch; the teacher is detached. Its floor is
    the entropy of that target. Source: arXiv:2207.10666, section 3.1; microsoft/Cream TinyViT/main.py.
    """
    target = spread(*largest(teacher_logits.detach(), k), teacher_logits.shape[-1])
    return -(target * at_least_single(student_logits).log_softmax(dim=-1)).sum(dim=-1).mean()


@METHODS.register(
    "sparse_kd",
    title="Distillation from stored outputs",
    kind="logit",
    paper="arXiv:2207.10666",
    needs=("logits", "one_view"),
    budget="0 for a weight, there is none; k: {1, 10, 100}",
)
class SparseDistillation(Method):
    """Soft cross-entropy to the stored outputs of the cell's teacher, nothing else; labels are not read.

    The outputs are those of `stored_outputs`, a preparation of the same data, recipe and seed; the teacher is
    not loaded to train, so that no agreement with it is measured. Students of one teacher and seed share it.
    The published configuration keeps 100 of 21,841 classes; the published size of the store for ImageNet-1k
    is that of 10. Mixup is off there (main.py), and the augmentation of an image is replayed from a stored
    seed, where ours needs none.
    """

    class Config(Settings):
        k: int = Field(
            default=10, ge=1, description="probabilities kept of each image; all, where there are no more"
        )

    floors = {"sparse_kd": "open"}  # the entropy of what was stored; the network that gave it is not there

    @classmethod
    def teacher_run(cls, config: Config, cell: CellFacts) -> TeacherRun | None:
        if cell.teacher_architecture is None:
            return None
        return TeacherRun("stored_outputs", {"k": config.k}, student=cell.teacher_architecture, reads="cell")

    def teacher_taps(self) -> frozenset[str]:
        return frozenset({taps.LOGITS})

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        target = teacher_logits(teacher, self.cell)
        return {"sparse_kd": sparse_kd_loss(logits_of(student), target, k=self.config.k)}
