"""What methods of kind relation share: one vector an image on each side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from torch import Tensor

from vitkd_bench.contracts import Batch, CellFacts, Features, taps
from vitkd_bench.methods._feature_transfer import FeatureTransfer, TransferSettings, architecture_of_teacher
from vitkd_bench.methods._layers import Layers, paired_blocks
from vitkd_bench.methods._tokens import patches_after
from vitkd_bench.spec import BadInputError


def _pooled_or_blocks(value: object, blocks: ValidatorFunctionWrapHandler) -> Any:
    if value == "pooled":
        return value
    try:
        return blocks(value)
    except ValidationError as error:
        why = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ValueError(f"'pooled' or blocks: {why}") from None


Vectors = Annotated[Layers, WrapValidator(_pooled_or_blocks)]
"""A setting that says what stands for an image: `pooled`, what the head reads, or blocks as in `Layers`, the
flattened patch tokens after each."""


def unit(vectors: Tensor) -> Tensor:
    """Divide vectors (..., D) by their L2 length; a zero vector stays zero, and its gradient finite."""
    length: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / length.masked_fill(length == 0, 1)


def at_least_two(student: Tensor, name: str) -> None:
    """Refuse a batch of one.

    Raises:
        ValueError: `student` (B, ...) has less than two rows.
    """
    if len(student) < 2:
        raise ValueError(f"{name} relates the samples of a batch: got a batch of {len(student)}")


def pooled_pair(student: Features, teacher: Features) -> tuple[Tensor, Tensor]:
    """Give the pooled representations (B, D_s) and (B, D_t), what each side's head reads."""
    if teacher.pooled is None or student.pooled is None:
        raise TypeError("this method reads the pooled representation of both sides, and it was not given")
    return student.pooled, teacher.pooled


class PooledTransfer(FeatureTransfer):
    """A comparison of the pooled representations."""

    def teacher_taps(self) -> frozenset[str]:
        return super().teacher_taps() | {taps.POOLED}

    def student_taps(self) -> frozenset[str]:
        return frozenset({taps.POOLED})


class VectorSettings(TransferSettings):
    """Settings of a method that compares vectors of images of any width."""

    vectors: Vectors = Field(
        default="pooled", description="what stands for an image: pooled, what the head reads, or blocks"
    )


class VectorTransfer(FeatureTransfer):
    """A comparison of one vector an image, in the sum over blocks where blocks are named.

    Patch tokens are flattened to (B, P x D), class token and registers left out; widths and grids of the two
    sides may differ.
    """

    relation: ClassVar[Callable[[Tensor, Tensor], Tensor]]
    """The loss of vectors (B, ...) of the student and the teacher."""

    @classmethod
    def refuses(cls, config: Any, cell: CellFacts) -> str | None:
        if why := super().refuses(config, cell):
            return why
        try:
            block_pairs(config.vectors, cell)
        except BadInputError as error:
            return str(error)
        return None

    @property
    def pairs(self) -> dict[int, int]:
        """The teacher's block for each block of the student that is read; none for `pooled`."""
        return block_pairs(self.config.vectors, self.cell)

    def student_taps(self) -> frozenset[str]:
        return frozenset(map(taps.tokens, self.pairs)) or frozenset({taps.POOLED})

    def teacher_taps(self) -> frozenset[str]:
        read = frozenset(map(taps.tokens, self.pairs.values())) or frozenset({taps.POOLED})
        return super().teacher_taps() | read

    def transferred(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        vectors = [
            (
                patches_after(student, ours, self.cell.student).flatten(1),
                patches_after(teacher, theirs, self.teacher_architecture).flatten(1),
            )
            for ours, theirs in self.pairs.items()
        ] or [pooled_pair(student, teacher)]
        return torch.stack([type(self).relation(ours, theirs) for ours, theirs in vectors]).sum()


def block_pairs(vectors: str | tuple[int, ...], cell: CellFacts) -> dict[int, int]:
    """Pair the student's blocks that are named with the teacher's by share of the depth; none for `pooled`.

    Raises:
        BadInputError: a block beyond the student's depth is named.
    """
    if vectors == "pooled":
        return {}
    return paired_blocks(vectors, cell.student.size.depth, architecture_of_teacher(cell).size.depth)
