"""The contract of a control: a method with one thing taken away, the thing that its claim rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from vitkd_bench.spec import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from vitkd_bench.contracts.cell import CellFacts
    from vitkd_bench.contracts.features import Batch, Features, Losses
    from vitkd_bench.contracts.method import Method
    from vitkd_bench.contracts.network import Network

READINGS = ("attention", "tokens", "pooled", "logits")
"""What a method can read of its teacher at a step, as the first word of a tap."""


@dataclass(frozen=True, slots=True)
class OtherTeacher:
    """What a control puts in the place of the cell's teacher.

    `label` names a teacher of the suite; else `drawn` says what of the cell's own is drawn at random: all
    `weights`, or a `head` on the features that it has.
    """

    label: str | None = None
    drawn: Literal["weights", "head"] | None = None


class Control:
    """A change to what a method gets of its teacher; everything else of the run stays the method's own.

    Every draw comes from streams named `control` of the run's seed and depends on the step alone, so that a
    control needs no state in a checkpoint. This class itself changes nothing.
    """

    Config: ClassVar[type[Settings]] = Settings
    views: ClassVar[int] = 1
    """Independently augmented views of each image; the teacher sees the last one, the student the first."""

    def __init__(self, config: Any, cell: CellFacts, seed: int) -> None:
        """Keep the settings, the facts of the cell with the teacher that is read, and the run's seed."""
        self.config = config
        self.cell = cell
        self.seed = seed

    @classmethod
    def refuses(cls, config: Any, method: Method, cell: CellFacts) -> str | None:
        """Say in one sentence why this says nothing of `method` in this cell, or nothing."""
        return None

    @classmethod
    def reads(cls, config: Any) -> OtherTeacher | None:
        """Name the teacher that is read in place of the cell's."""
        return None

    def alter(self, method: Method) -> None:
        """Change a method just made, such as freeze its parameters."""

    def fit(self, teacher: Network | None, batches: Iterable[Batch]) -> None:
        """Gather what is needed of the training images; `batches` run once, without augmentation.

        Called before every start, also that of a run that is resumed.
        """

    def taps(self, wanted: frozenset[str]) -> frozenset[str]:
        """Name what must be read of the teacher for a method that asks for `wanted`."""
        return wanted

    def seen(self, teacher: Features, ids: Tensor, labels: Tensor | None = None, epoch: int = 0) -> Features:
        """Give what the method sees in place of `teacher`, features of the images `ids` (B,).

        `labels` (B,) are None at test: nothing that happens there may depend on them.
        """
        return teacher

    def step(self, method: Method, student: Network, teacher: Features | None, batch: Batch) -> Losses:
        """Take the method's step, or another one, with what the method sees of the teacher."""
        return method.step(student, teacher, batch)

    def notes(self) -> tuple[str, ...]:
        """Give sentences that the record should carry."""
        return ()
