"""WideLast: a student whose last block alone is as wide as the teacher (arXiv:2511.15572)."""

from __future__ import annotations

from torch import Tensor

from vitkd_bench.contracts import CellFacts
from vitkd_bench.methods._widened import WidenedSettings, WidenedStudent
from vitkd_bench.methods.lift import lift_loss
from vitkd_bench.registry import METHODS


def widelast_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of patch tokens after the wide last block and the teacher's, both (B, P, D).

    That is `lift_loss`: mean over every element, the teacher detached. Source: code of the paper,
    thy960112/From-Per-Image-Low-Rank-to-Encoding-Mismatch, training/widelast/losses.py, `layer_mse_loss`.
    """
    return lift_loss(student, teacher)


@METHODS.register(
    "widelast",
    title="Wide last block (WideLast)",
    kind="feature",
    paper="arXiv:2511.15572",
    needs=("grid", "parameters"),
    budget="weight: 6 trials of 0 and .2 x {.1, .3, 1, 3, 10}; kd: {0, .5, .9}",
)
class WideLast(WidenedStudent):
    """(1 - kd) label loss + kd KL + weight x the squared difference of the last tokens.

    The student's last block is drawn anew in the teacher's width, with heads of the same dimension as before
    and hence more of them; all tokens pass a linear map without bias and a layer norm on their way into it.
    Its patch tokens are matched with the teacher's after its last block, before its final norm. Last norm and
    head have that width too. All of it is the student's: trained, counted, kept, and used at test. Equal
    widths have a square map; a student wider than its teacher is refused.

    The student is another one than that of every other method. `target: none` is the control for that: the
    same student on the labels alone. Published: weight .2, kd .9 (`kd: 0.9`), 300 epochs of DeiT-Ti (11
    blocks of 3 heads, one of 6) under CaiT-S24, no drop path, no mixup.

    Trap: the residual stream does not pass the last block's entrance unchanged, it is projected and
    normalised there. The released student decides by its class token (`pool: class`); by default ours pools
    patches, as all do here, so that its baseline is the one of every other method.
    """

    name = "widelast"
    last_block = True
    change = "has a last block of"

    @classmethod
    def refuses(cls, config: WidenedSettings, cell: CellFacts) -> str | None:
        if why := super().refuses(config, cell):
            return why
        size, wide = cell.student.size, cell.teacher_architecture
        each = size.width // size.heads
        if wide is None or wide.size.width % each == 0:
            return None
        return (
            f"widelast widens the last block by whole heads, and the teacher's {wide.size.width} channels are"
            f" no multiple of the student's {each} a head"
        )

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        return widelast_loss(student, teacher)
