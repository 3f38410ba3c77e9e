"""Another teacher in the place of the cell's: one that learnt nothing, or one of another family."""

from __future__ import annotations

from pydantic import Field

from vitkd_bench.contracts import CellFacts, Control, Method, OtherTeacher
from vitkd_bench.registry import CONTROLS
from vitkd_bench.spec import Settings


@CONTROLS.register(
    "random_teacher",
    title="teacher of random weights",
    claim="that what the teacher has learnt is passed on, and not its architecture",
)
class RandomTeacher(Control):
    """The teacher's architecture with its head, every weight drawn, for each seed of the run anew.

    Drawn by the recipe's law for students, not by the one of the teacher's own authors, and from a stream of
    its own: a native student of that run starts from other weights.
    """

    @classmethod
    def reads(cls, config: Settings) -> OtherTeacher:
        return OtherTeacher(drawn="weights")


@CONTROLS.register(
    "random_head",
    title="trained teacher under a random head",
    claim="that the head which the teacher has learnt adds to its features",
    acts_on=("logits",),
)
class RandomHead(Control):
    """The teacher's own features under a linear head for the data set's classes whose weights are drawn.

    Weights are normal of variance 1 / width, biases zero, for each seed of the run anew. A teacher without a
    head can be given one.
    """

    @classmethod
    def reads(cls, config: Settings) -> OtherTeacher:
        return OtherTeacher(drawn="head")


@CONTROLS.register(
    "other_teacher",
    title="another teacher",
    claim="that what is passed on is this teacher's",
)
class AnotherTeacher(Control):
    """Another teacher of the suite is read, of another family for instance; the student stays as it is.

    Maps of another teacher must fit the student as the cell's own have to.
    """

    class Config(Settings):
        teacher: str = Field(default="", description="the suite's name of the teacher that is read instead")

    @classmethod
    def reads(cls, config: Config) -> OtherTeacher:
        return OtherTeacher(label=config.teacher)

    @classmethod
    def refuses(cls, config: Config, method: Method, cell: CellFacts) -> str | None:
        other, student = cell.teacher_architecture, cell.student
        if other is None or (other.image_size, other.channels) == (student.image_size, student.channels):
            return None
        ours, theirs = (f"{a.channels} x {a.image_size} px" for a in (student, other))
        return f"images differ: {ours} for the student, {theirs} for {config.teacher}"
