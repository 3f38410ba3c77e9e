"""What keeping one kind of module of the teacher has in common, whichever it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from pydantic import Field
from torch import Tensor

from vitkd_bench.contracts import Batch, CellFacts, Features, Method, Network
from vitkd_bench.methods._from_teacher import Extent, StartsFromTeacher, in_a_block, of_head
from vitkd_bench.methods._pairing import maps_differ
from vitkd_bench.methods.attn_copy import AttentionCopy
from vitkd_bench.methods.attn_distill import AttentionDistillation
from vitkd_bench.methods.none import NoTransfer
from vitkd_bench.spec import Settings

if TYPE_CHECKING:
    from vitkd_bench.attention import AttentionCall


class KeptModule(StartsFromTeacher):
    """One kind of module is the teacher's at the start, the other kind and the head are drawn.

    Then labels alone, or labels with attention copied or distilled at every step.
    """

    class Config(StartsFromTeacher.Config):
        extent: Extent = Field(
            default="linear",
            description="what is the module: its linear layers; the norm before it too; all of its parts",
        )
        rest: Literal["keep", "redraw"] = Field(
            default="keep", description="embeddings and last norm, which belong to neither module"
        )
        transfer: Literal["none", "attn_copy", "attn_distill"] = Field(
            default="none", description="what is transferred besides, at every step, in all blocks"
        )
        weight: float = Field(
            default=3.0, ge=0, description="of the maps' loss of attn_distill; without it not used"
        )

    def __init__(self, config: Config, cell: CellFacts) -> None:
        """Make the method that goes on after the start."""
        super().__init__(config, cell)
        self.then: Method = NoTransfer(Settings(), cell)
        if config.transfer == "attn_copy":
            self.then = AttentionCopy(AttentionCopy.Config(), cell)
        elif config.transfer == "attn_distill":
            self.then = AttentionDistillation(AttentionDistillation.Config(weight=config.weight), cell)

    @classmethod
    def refuses(cls, config: Config, cell: CellFacts) -> str | None:
        return None if config.transfer == "none" else maps_differ("all", cell)

    @classmethod
    def teacher_at_test(cls, config: Config) -> bool:
        """Copied attention is needed for as long as the student runs."""
        return config.transfer == "attn_copy"

    def of_kept_module(self, name: str) -> bool:
        """Say whether a parameter belongs to the kind of module that is kept, in the extent that is set."""
        raise NotImplementedError(f"{type(self).__name__} does not say which module it keeps")

    def wanted(self, name: str) -> bool:
        if in_a_block(name):
            return self.of_kept_module(name)
        return self.config.rest == "keep" and not of_head(name)

    def teacher_taps(self) -> frozenset[str]:
        return self.then.teacher_taps()

    def student_taps(self) -> frozenset[str]:
        return self.then.student_taps()

    def injects(self) -> tuple[int, ...]:
        return self.then.injects()

    def injected(self, teacher: Features | None) -> dict[int, AttentionCall]:
        return self.then.injected(teacher)

    def fit(self, student: Network, teacher: Network | None, batches: Iterable[Batch]) -> None:
        """Copy the weights, then let what follows see the student that starts."""
        super().fit(student, teacher, batches)
        self.then.fit(student, teacher, batches)

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        return dict(self.then.loss(student, teacher, batch))

    def after_step(self, student: Network, progress: float) -> None:
        """Let what follows do its part."""
        self.then.after_step(student, progress)

    def notes(self) -> tuple[str, ...]:
        return (*super().notes(), *self.then.notes())
