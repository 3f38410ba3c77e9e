"""DIST: keep the teacher's correlations between and within classes (Huang et al., arXiv:2205.10536)."""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vitkd_bench.contracts import Batch, CellFacts, Features, Method, taps
from vitkd_bench.methods._labels import label_loss_of
from vitkd_bench.methods._logits import logits_of, teacher_logits
from vitkd_bench.methods._precision import at_least_single
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings

_EPS = 1e-8


def dist_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    inter: float = 1.0,
    intra: float = 1.0,
    temperature: float = 1.0,
) -> Tensor:
    """Weigh how far rows and columns of probabilities are from being correlated with the teacher's.

    inter (1 - mean row correlation) + intra (1 - mean column correlation) of the softmax of logits (B, K)
    over the temperature. Pearson correlation, without unit: each part is in [0, 2]. Rows are samples, columns
    are classes over the samples of this batch.
    A constant row or column correlates with nothing: 0. In a batch of two a column's correlation is 1 or -1
    and has no gradient. No T^2: a correlation has no scale, so that factor of the published form is a mere
    weight. The teacher is detached. Source: arXiv:2205.10536;
    hunto/image_classification_sota `lib/models/losses/dist_kd.py`.

    Raises:
        ValueError: a batch of one.
    """
    if len(student_logits) < 2:
        raise ValueError("dist correlates the samples of a batch and was given a batch of one")
    student = F.softmax(at_least_single(student_logits) / temperature, dim=1)
    teacher = F.softmax(at_least_single(teacher_logits.detach()) / temperature, dim=1)
    return inter * _apart(student, teacher) + intra * _apart(student.T, teacher.T)


def _apart(student: Tensor, teacher: Tensor) -> Tensor:
    """Give 1 - the mean over rows of the Pearson correlation of two matrices."""
    s = student - student.mean(dim=1, keepdim=True)
    t = teacher - teacher.mean(dim=1, keepdim=True)
    norms = s.norm(dim=1) * t.norm(dim=1)
    correlation: Tensor = (s * t).sum(dim=1) / (norms + _EPS)
    return 1 - correlation.mean()


@METHODS.register(
    "dist",
    title="Correlation of predictions (DIST)",
    kind="logit",
    paper="arXiv:2205.10536",
    needs=("logits", "batch"),
    budget="weight: 6 trials of {0, .2, .6, 2, 6, 20}; temperature: 3 trials of {1, 2, 4}",
)
class CorrelationDistillation(Method):
    """Cross-entropy with labels + weight x (inter-class + intra-class part).

    The published form multiplies by T^2, which at temperature 4 makes the weight 32 where the text says 2.
    Here the weight is the weight. The intra-class part sees one batch: its value depends on the batch size.
    """

    class Config(Settings):
        weight: float = Field(
            default=2.0, ge=0, description="of both parts together, against a label loss of weight 1"
        )
        inter: float = Field(default=1.0, ge=0, description="of the correlation over the classes of a sample")
        intra: float = Field(default=1.0, ge=0, description="of the correlation over the samples for a class")
        temperature: float = Field(default=1.0, gt=0, description="divides both logits before the softmax")

    @classmethod
    def refuses(cls, config: Config, cell: CellFacts) -> str | None:
        if config.intra and cell.recipe is not None and cell.recipe.batch_size == 2:
            return (
                f"dist correlates a class over the batch, which takes three samples; recipe "
                f"{cell.recipe.name} has batches of 2"
            )
        return None

    def teacher_taps(self) -> frozenset[str]:
        return frozenset({taps.LOGITS})

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        config = self.config
        apart = dist_loss(
            logits_of(student),
            teacher_logits(teacher, self.cell),
            inter=config.inter,
            intra=config.intra,
            temperature=config.temperature,
        )
        return {"labels": label_loss_of(student, batch), "dist": config.weight * apart}
