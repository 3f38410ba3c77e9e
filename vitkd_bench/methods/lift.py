"""Lift: a projector to the teacher's width that stays in the student (arXiv:2511.15572)."""

from __future__ import annotations

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor, nn

from vitkd_bench.contracts import Batch, CellFacts, Network
from vitkd_bench.methods._precision import at_least_single
from vitkd_bench.methods._widened import WidenedSettings, WidenedStudent
from vitkd_bench.registry import METHODS


def lift_loss(lifted: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the student's lifted patch tokens and the teacher's, both (B, P, D).

    Mean over every element; the teacher is detached. Source: code of the paper,
    thy960112/From-Per-Image-Low-Rank-to-Encoding-Mismatch, training/widelast/losses.py, `layer_mse_loss`.
    """
    return F.mse_loss(at_least_single(lifted), at_least_single(teacher.detach()))


@METHODS.register(
    "lift",
    title="Lifted last tokens (Lift)",
    kind="feature",
    paper="arXiv:2511.15572",
    needs=("grid", "parameters"),
    budget="weight: 6 trials of 0 and .2 x {.1, .3, 1, 3, 10}; kd: {0, .5, .9}",
)
class Lift(WidenedStudent):
    """(1 - kd) label loss + kd KL + weight x the squared difference of the lifted last tokens.

    After its blocks each of the student's patch tokens passes a linear map without bias to the teacher's
    width and a layer norm; these are matched with the teacher's after its last block, before its final norm.
    Pooling and head follow in that width, without another norm. All of it is the student's: trained, counted,
    kept, and used at test. Equal widths have a square map; a student wider than its teacher is refused.

    The student is another one than that of every other method. `target: none` is the control for that: the
    same student on the labels alone. Published: weight .2, kd 0 or .9, 300 epochs of DeiT-Ti under CaiT-S24,
    no drop path, no mixup.

    The released student decides by its lifted class token (`pool: class`); by default ours pools patches, as
    all do here, so that its baseline is the one of every other method.

    Trap: as in the released code the lift ends in a layer norm, so that its tokens cannot follow the scale of
    one token of the teacher against another's. Its eps there is 1e-5; ours is the architecture's.
    """

    name = "lift"
    last_block = False
    change = "lifts its last tokens to"

    def __init__(self, config: WidenedSettings, cell: CellFacts) -> None:
        """Keep the settings; the lift is the student's, from `fit` on."""
        super().__init__(config, cell)
        self.lift: nn.Module = nn.Identity()

    def fit(self, student: Network, teacher: Network | None, batches: Iterable[Batch]) -> None:
        """Give the student its lift and a head of the new width."""
        super().fit(student, teacher, batches)
        self.lift = student.module.get_submodule("lift")

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        return lift_loss(self.lift(student), teacher)
