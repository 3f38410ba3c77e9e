"""FitNets: a trained projector makes the student's tokens predict the teacher's (arXiv:1412.6550)."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vitkd_bench.contracts import CellFacts
from vitkd_bench.methods._feature_transfer import BlockSettings, BlockTransfer
from vitkd_bench.methods._precision import at_least_single
from vitkd_bench.registry import METHODS

Norm = Literal["none", "layer", "batch"]


def projector_loss(projected: Tensor, teacher: Tensor, norm: Norm = "none") -> Tensor:
    """Mean squared difference of the student's projected tokens and the teacher's, both (B, N, D).

    Mean over every element; the teacher is detached. `norm` is none (FitNets), `layer`: each token of the
    teacher is brought to mean 0 and variance 1 over its channels, or `batch`: each channel of both sides over
    all tokens of the batch, which takes at least two of them. No norm has weights: a learned scale on both
    sides would shrink the loss to nothing. Source: Romero et al., section 2.2, equation 3, with a linear
    regressor; `batch` is ProjectorKD of Distillation-Dynamics (arXiv:2511.06848) without its learned scales.
    """
    guess, target = at_least_single(projected), at_least_single(teacher.detach())
    if norm == "layer":
        target = F.layer_norm(target, target.shape[-1:])
    if norm == "batch":
        guess, target = _standardised(guess), _standardised(target)
    return F.mse_loss(guess, target)


def _standardised(tokens: Tensor) -> Tensor:
    rows = tokens.flatten(0, -2)
    return F.batch_norm(rows, None, None, training=True).reshape(tokens.shape)


@METHODS.register(
    "projector",
    title="Features through a trained projector (FitNets)",
    kind="feature",
    paper="arXiv:1412.6550",
    needs=("grid", "parameters"),
    budget="weight: 6 trials of 0 and .1 x {.1, .3, 1, 3, 10}; layers: {first:1, last:1, both}",
)
class Projector(BlockTransfer, nn.Module):
    """Label loss + weight x the mean over blocks of the projected patch tokens' squared error.

    One linear projector a block, from the student's width to the teacher's, equal widths included; it is
    trained with the student from the first step and left behind. Class token and registers are left out.

    Traps: the CNN regressors in public code end in batch norm and ReLU, which signed tokens of a ViT cannot
    pass; ours is linear. In the released ProjectorKD the layers are created at the first forward, after the
    optimiser, so that its "learnable" projector never moves; ours is made with the method. The weight 100 of
    CNNs is for hints after batch norm and ReLU; .1 is for tokens of a ViT. FitNets trains in two stages, this
    method jointly, as later comparisons do.
    """

    name = "projector"

    class Config(BlockSettings):
        weight: float = Field(default=0.1, ge=0, description="of the features' loss; the task loss weighs 1")
        norm: Norm = Field(default="none", description="of the teacher's tokens; batch: of both sides'")

    def __init__(self, config: Config, cell: CellFacts) -> None:
        """Draw one projector a block."""
        super().__init__(config, cell)
        widths = cell.student.size.width, self.teacher_architecture.size.width
        self.projectors = nn.ModuleDict({str(block): nn.Linear(*widths) for block in self.pairs})

    def distance(self, student: Tensor, teacher: Tensor, block: int) -> Tensor:
        return projector_loss(self.projectors[str(block)](student), teacher, self.config.norm)
