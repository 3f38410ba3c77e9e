"""What `lift` and `widelast` have in common: a student that ends as wide as its teacher, and its control."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal, Protocol, cast

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor

from vitkd_bench.contracts import Batch, CellFacts, Features, Network, taps
from vitkd_bench.methods._feature_transfer import FeatureTransfer, TransferSettings, wider_student
from vitkd_bench.methods._labels import label_loss_of
from vitkd_bench.methods._tokens import patches_after

WEIGHT = 0.2
_SEEDS = 2**62


class WidenedSettings(TransferSettings):
    """Settings of both methods."""

    weight: float = Field(default=WEIGHT, ge=0, description="of the features' loss; the task loss weighs 1")
    target: Literal["teacher", "none"] = Field(
        default="teacher",
        description="what the wide tokens learn; none is the control: the same student, labels alone",
    )
    pool: Literal["patches", "class"] = Field(
        default="patches",
        description="what the student decides by: the mean of its patches, or its class token, as released",
    )

    @field_validator("target")
    @classmethod
    def _nothing_else(cls, target: str, info: ValidationInfo) -> str:
        """Refuse what the control would leave unused, so that one meaning has one form (and one run id)."""
        if target == "none" and (info.data.get("kd") or info.data.get("weight", WEIGHT) != WEIGHT):
            raise ValueError("none reads no teacher: leave out weight and kd")
        return target


class _Widens(Protocol):
    def widen(self, width: int, seed: int, law: str, *, last_block: bool, by_class_token: bool) -> None:
        """Let a student end in `width` channels."""


class WidenedStudent(FeatureTransfer):
    """(1 - kd) label loss + kd KL + weight x the squared difference of the last tokens, in equal widths.

    The student takes its new parts in `fit`: they are the student's own, trained and kept with it. They are
    drawn from a seed that the stream `method` gives, so that the student's own stream is that of a plain one.
    """

    Config = WidenedSettings
    last_block: ClassVar[bool]
    """Whether the last block is the wide part; a lift after it otherwise."""
    change: ClassVar[str]
    """What of the student is changed, in words that go before a width."""

    def __init__(self, config: WidenedSettings, cell: CellFacts) -> None:
        """Draw the seed of the new parts."""
        super().__init__(config, cell)
        self.seed = int(torch.randint(_SEEDS, ()).item())
        self.added = 0

    @classmethod
    def refuses(cls, config: WidenedSettings, cell: CellFacts) -> str | None:
        because = (
            f"{cls.name} makes the student's last tokens as wide as the teacher's, and these are narrower"
        )
        if config.pool == "class" and not cell.student.class_token:
            return f"{cls.name} with pool class reads the student's class token, and it has none"
        return super().refuses(config, cell) or wider_student(cell, because)

    @property
    def learns(self) -> bool:
        """Whether there is a target; the control has none."""
        return bool(self.config.target == "teacher")

    @property
    def width(self) -> int:
        """Channels in which the student ends: the teacher's."""
        return self.teacher_architecture.size.width

    @property
    def last(self) -> tuple[int, int]:
        """Numbers of the last blocks of student and teacher."""
        return self.cell.student.size.depth - 1, self.teacher_architecture.size.depth - 1

    def student_taps(self) -> frozenset[str]:
        return frozenset({taps.tokens(self.last[0])} if self.learns else ())

    def teacher_taps(self) -> frozenset[str]:
        return super().teacher_taps() | ({taps.tokens(self.last[1])} if self.learns else set())

    def fit(self, student: Network, teacher: Network | None, batches: Iterable[Batch]) -> None:
        """Give the student its new parts."""
        law = self.cell.recipe.initialisation if self.cell.recipe else "timm"
        before = _weights(student)
        by_class_token = self.config.pool == "class"
        cast("_Widens", student).widen(
            self.width, self.seed, law, last_block=self.last_block, by_class_token=by_class_token
        )
        self.added = _weights(student) - before

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        if not self.learns:
            return {"labels": label_loss_of(student, batch)}
        return super().loss(student, teacher, batch)

    def transferred(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        ours, theirs = self.last
        return self.distance(
            patches_after(student, ours, self.cell.student),
            patches_after(teacher, theirs, self.teacher_architecture),
        )

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare the patch tokens (B, P, D) after both last blocks."""
        raise NotImplementedError(f"{type(self).__name__} does not say how tokens are compared")

    def notes(self) -> tuple[str, ...]:
        told = f"the student {self.change} {self.width} channels, {self.added} weights more than a plain one"
        return (f"{told}; compare it with {self.name} under target: none",) if self.learns else (told,)


def _weights(student: Network) -> int:
    return sum(parameter.numel() for parameter in student.module.parameters())
