"""The contract of a method: what it reads, what it injects, and its loss. The engine does the rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from vitkd_bench.spec import Architecture, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from vitkd_bench.attention import AttentionCall
    from vitkd_bench.contracts.cell import CellFacts
    from vitkd_bench.contracts.features import Batch, Features, Losses
    from vitkd_bench.contracts.network import Network


@dataclass(frozen=True, slots=True)
class TeacherRun:
    """A run that a method needs first: the network that it trains is the method's teacher.

    `student` is what it trains, None for the cell's own student; `reads` is what it learns from: the `cell`'s
    teacher, `nothing`, or another such run. `epochs` are those of its training, None for as many as the
    cell's recipe has. A run of kind `store` keeps the outputs of what it reads: those are the teacher then.
    """

    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    student: Architecture | None = None
    reads: Literal["cell", "nothing"] | TeacherRun = "nothing"
    epochs: int | None = None


class Method:
    """A rule of training.

    A method with parameters of its own also inherits `torch.nn.Module` (after `Method`); they are trained
    beside the student's and kept apart from them. The engine makes a method once a run, inside the random
    stream `method`; it calls `fit` once before the optimiser is made, `step` for every batch and `after_step`
    after the optimiser has moved.
    """

    Config: ClassVar[type[Settings]] = Settings
    views: ClassVar[int] = 1
    """Independently augmented views of each image that a step needs, the first included."""
    floors: ClassVar[Mapping[str, Literal["teacher", "open"]]] = {}
    """Where the parts of the loss end on a batch that is learnt by heart, those named that do not end at 0.

    At `teacher`, the value that a part has where the student is the teacher (a cross-entropy has its target's
    entropy); or `open`: at none that is known, so that the part only has to fall. The kit that methods are
    tested with reads this, training does not.
    """

    def __init__(self, config: Any, cell: CellFacts) -> None:
        """Keep the settings and the facts of the cell."""
        super().__init__()
        self.config = config
        self.cell = cell

    @classmethod
    def refuses(cls, config: Any, cell: CellFacts) -> str | None:
        """Say in one sentence why this cell cannot work, or nothing."""
        return None

    @classmethod
    def also_needs(cls, config: Any) -> tuple[str, ...]:
        """Name what these settings need beside the entry's own `needs` (`contracts.needs`)."""
        return ()

    @classmethod
    def teacher_run(cls, config: Any, cell: CellFacts) -> TeacherRun | None:
        """Name the run whose network is the teacher in place of the cell's: an assistant, an earlier self.

        It is planned, priced, trained and kept like any other preparation.
        """
        return None

    @classmethod
    def teacher_at_test(cls, config: Any) -> bool:
        """Say whether these settings need the teacher at test, where the entry does not say so of all."""
        return False

    @classmethod
    def reads_alone(cls, config: Any) -> bool:
        """Say whether these settings run the teacher themselves in `step`, otherwise than others read it.

        `step` is then given no features of the teacher (`fit` is given the network), and the run is trained
        in a pack of its own.
        """
        return False

    def peers(self) -> int:
        """Count the further students that are trained beside the one of the cell; see `meet`."""
        return 0

    def meet(self, peers: Sequence[Network]) -> None:
        """Take those students: of the same architecture, each drawn from a seed of its own.

        Called once, before `fit`, if `peers()` is not 0. A method keeps them as its own modules, so that
        they are trained, checkpointed apart from the student, and not part of what is exported.
        """
        raise NotImplementedError(f"{type(self).__name__} asks for peers and does not take them")

    def teacher_taps(self) -> frozenset[str]:
        """Name what is read of the teacher at every step; nothing else of it is computed."""
        return frozenset()

    def student_taps(self) -> frozenset[str]:
        """Name what is read of the student beside its logits."""
        return frozenset()

    def injects(self) -> tuple[int, ...]:
        """Blocks of the student that use the teacher's attention, at training and at test."""
        return ()

    def injected(self, teacher: Features | None) -> dict[int, AttentionCall]:
        """Give what those blocks use: the teacher's call of the same number, unless a method maps them.

        A call must fit the student's tokens: one that has more of them is cut here (`select_tokens`).
        """
        return {i: teacher.attention[i] for i in self.injects()} if teacher else {}

    def fit(self, student: Network, teacher: Network | None, batches: Iterable[Batch]) -> None:
        """Fit what must be there before training (a codebook, say), or change the student.

        `batches` run once, without augmentation, over the training images.
        """

    def step(self, student: Network, teacher: Features | None, batch: Batch) -> Losses:
        """Run the student on the batch and give the parts of the loss."""
        return self.loss(student(batch.pixels, self.student_taps(), self.injected(teacher)), teacher, batch)

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> Losses:
        """Give the named parts of the loss; their sum is trained on."""
        raise NotImplementedError(f"{type(self).__name__} defines neither loss nor step")

    def after_step(self, student: Network, progress: float) -> None:
        """Do what follows an optimiser step, such as moving an average; `progress` in [0, 1]."""

    def scored(self) -> str:
        """Name the output of the student that is scored, where a method gives it more than one."""
        return "the student's head"

    def notes(self) -> tuple[str, ...]:
        """Give sentences that the record should carry, such as what of the student is not used."""
        return ()

    def result(self, student: Network) -> Network:
        """Give the network that is evaluated and kept: the student, or an average of it."""
        return student
