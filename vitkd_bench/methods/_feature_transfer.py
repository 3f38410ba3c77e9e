"""What methods that match features share: the task's loss beside theirs, pairs of blocks, taps, refusals."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from vitkd_bench.contracts import Batch, CellFacts, Features, Method, taps
from vitkd_bench.methods._labels import label_loss_of
from vitkd_bench.methods._layers import Layers, blocks_of, paired_blocks
from vitkd_bench.methods._logits import logits_of, teacher_logits
from vitkd_bench.methods._tokens import patches_after, resized
from vitkd_bench.methods.kd import kd_loss
from vitkd_bench.spec import Architecture, BadInputError, Settings

Pairing = Literal["share", "ends"]


class TransferSettings(Settings):
    """Settings of every method of this kind; with `kd` at 0 a teacher needs no head."""

    weight: float = Field(default=1.0, ge=0, description="of the features' loss; the task loss weighs 1")
    kd: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of the task loss that is kd at temperature 1; the labels keep 1 - kd",
    )


class BlockSettings(TransferSettings):
    """The same, of a method that compares the tokens of paired blocks."""

    layers: Layers = Field(default="last:1", description="blocks of the student whose tokens are matched")
    pairing: Pairing = Field(
        default="share",
        description="of blocks of unequal depths: by share of the depth, or from the nearer end",
    )


class FeatureTransfer(Method):
    """(1 - kd) label loss + kd KL with the teacher's logits + weight x what `transferred` gives."""

    name: ClassVar[str]
    """The registered name, under which the method's own part of the loss is logged."""

    @classmethod
    def refuses(cls, config: Any, cell: CellFacts) -> str | None:
        return None if cell.teacher_architecture else f"{cls.name} needs a teacher"

    @classmethod
    def also_needs(cls, config: Any) -> tuple[str, ...]:
        return ("logits",) if config.kd else ()

    def teacher_taps(self) -> frozenset[str]:
        return frozenset({taps.LOGITS}) if self.config.kd else frozenset()

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        if teacher is None:
            raise TypeError(f"{self.name} reads a teacher, and none was given")
        transferred = self.config.weight * self.transferred(student, teacher, batch)
        return {**self.task(student, teacher, batch), self.name: transferred}

    def task(self, student: Features, teacher: Features, batch: Batch) -> dict[str, Tensor]:
        """Give the task's loss of one step: against labels, and against the teacher's logits where asked."""
        share = self.config.kd
        parts = {"labels": (1 - share) * label_loss_of(student, batch)}
        if share:
            parts["kd"] = share * kd_loss(logits_of(student), teacher_logits(teacher, self.cell))
        return parts

    def transferred(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """Give the features' loss of one step, a scalar, before its weight."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it transfers")

    @property
    def teacher_architecture(self) -> Architecture:
        """The teacher's, of a cell that `refuses` let pass."""
        return architecture_of_teacher(self.cell)


class BlockTransfer(FeatureTransfer):
    """A distance between the patch tokens of paired blocks, in the mean or the sum over pairs."""

    over: ClassVar[Literal["mean", "sum"]] = "mean"

    @classmethod
    def refuses(cls, config: Any, cell: CellFacts) -> str | None:
        if why := super().refuses(config, cell):
            return why
        try:
            blocks_of(config.layers, cell.student.size.depth)
        except BadInputError as error:
            return str(error)
        return None

    @property
    def pairs(self) -> dict[int, int]:
        """The teacher's block for each block of the student that is matched."""
        depths = self.cell.student.size.depth, self.teacher_architecture.size.depth
        return pairs_of_blocks(self.config.layers, self.config.pairing, *depths)

    def student_taps(self) -> frozenset[str]:
        return frozenset(taps.tokens(block) for block in self.pairs)

    def teacher_taps(self) -> frozenset[str]:
        return super().teacher_taps() | {taps.tokens(block) for block in self.pairs.values()}

    def transferred(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        distances = [
            self.distance(
                patches_after(student, ours, self.cell.student),
                patches_after(teacher, theirs, self.teacher_architecture),
                ours,
            )
            for ours, theirs in self.pairs.items()
        ]
        total = torch.stack(distances)
        return total.mean() if self.over == "mean" else total.sum()

    def distance(self, student: Tensor, teacher: Tensor, block: int) -> Tensor:
        """Compare patch tokens (B, P, D) after one pair of blocks; `block` is the student's."""
        raise NotImplementedError(f"{type(self).__name__} does not say how tokens are compared")


def pairs_of_blocks(
    layers: str | tuple[int, ...], pairing: Pairing, student: int, teacher: int
) -> dict[int, int]:
    """Pair the blocks that `layers` names in a student of depth `student` with those of a teacher.

    `share`: by share of the depth (`paired_blocks`). `ends`: the first half of the student counted from the
    front, the second from the end, so that first meets first and last meets last without gaps; where the
    teacher is the shallower one, what exceeds a half of it meets the end of that half. Equal depths pair
    i with i in both.

    Raises:
        BadInputError: a block beyond the student's depth is named.
    """
    if pairing == "share":
        return paired_blocks(layers, student, teacher)
    return {
        i: min(i, (teacher - 1) // 2) if 2 * i < student else max(teacher // 2, teacher - student + i)
        for i in blocks_of(layers, student)
    }


def architecture_of_teacher(cell: CellFacts) -> Architecture:
    """Give the architecture of the cell's teacher.

    Raises:
        TypeError: the cell has none; `refuses` says so before.
    """
    if cell.teacher_architecture is None:
        raise TypeError("this method reads a teacher, and the cell has none")
    return cell.teacher_architecture


def wider_student(cell: CellFacts, because: str) -> str | None:
    """Say that the student is wider than its teacher and `because` of what that does not work, or nothing."""
    student, teacher = cell.student.size.width, architecture_of_teacher(cell).size.width
    return f"widths: student {student}, teacher {teacher}; {because}" if student > teacher else None


def on_common_grid(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Average patch tokens (B, P, D) of square grids down to the smaller of both grids."""
    side = round(min(student.shape[1], teacher.shape[1]) ** 0.5)
    return resized(student, side), resized(teacher, side)
