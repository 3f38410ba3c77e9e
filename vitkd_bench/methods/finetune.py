"""Full fine-tuning: the student starts as the teacher and all of it is trained (as in arXiv:2111.06377)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from vitkd_bench.contracts import Network
from vitkd_bench.methods._from_teacher import StartsFromTeacher, of_head
from vitkd_bench.registry import METHODS


@METHODS.register(
    "finetune",
    title="Full fine-tuning",
    kind="weights",
    paper="arXiv:2111.06377",
    needs=("width", "depth", "heads", "grid"),
    budget="0: its loss has no weight; learning rate and weight decay are those of none",
)
class FineTuning(StartsFromTeacher):
    """Cross-entropy with the labels, from the teacher's weights, all of which are trained.

    All weights that the student has too, by name and shape, are the teacher's; the record names them and
    those that are drawn. A head is taken where it was made for what the student pools too, the normalised
    mean of patches, and knows every class of the data set, whose rows are taken; not of a teacher that pools
    its class token. Components that the student lacks are dropped, which is lossy, or folded in where they
    are layer scales and the settings or the student (`layer_scale: folded`) say so.
    """

    class Config(StartsFromTeacher.Config):
        head: bool = Field(default=True, description="start from the teacher's head where it fits")

    def wanted(self, name: str) -> bool:
        return self.config.head or not of_head(name)

    def weights_of(self, student: Network, teacher: Network) -> dict[str, Tensor]:
        """Give the weights, of the head the rows of the data set's classes."""
        weights = super().weights_of(student, teacher)
        facts, classes = self.cell.teacher, self.cell.teacher_classes
        stored = facts is not None and facts.head is not None and facts.head.kind != "probe"
        if not stored or classes is None:
            return {name: tensor for name, tensor in weights.items() if not of_head(name)}
        return {name: t[list(classes)] if of_head(name) else t for name, t in weights.items()}
