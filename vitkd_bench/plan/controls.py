"""Controls in a plan: what a suite asks for, where it applies, and whom a run under one reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitkd_bench.contracts import CellFacts, OtherTeacher
from vitkd_bench.plan.teachers import PlannedTeacher
from vitkd_bench.registry import ControlEntry, MethodEntry
from vitkd_bench.spec import BadInputError, ControlUse, Run, Settings, TeacherUse, content_hash, nearest

if TYPE_CHECKING:
    from vitkd_bench.contracts import Method


@dataclass(frozen=True, slots=True)
class Chosen:
    """A control with its settings."""

    entry: ControlEntry
    config: Settings

    def use(self) -> ControlUse:
        """Give what of the control stands in a run."""
        return ControlUse(name=self.entry.name, version=self.entry.version, settings=self.config.declared())

    @property
    def reads(self) -> OtherTeacher:
        """What it puts in the place of the cell's teacher, if anything."""
        return self.entry.control.reads(self.config) or OtherTeacher()

    def refuses(self, method: MethodEntry, config: Settings, cell: CellFacts) -> str | None:
        """Say in one sentence why this is no control of a method that can work in `cell`, or nothing."""
        return self.entry.refuses(self.config, method, _made(method, config, cell), cell)


def _made(entry: MethodEntry, config: Settings, cell: CellFacts) -> Method:
    """Make a method as it is planned, to ask what it reads; torch's random state is left as it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        return entry.method(config, cell)


def check_teacher(control: Chosen | None, labels: list[str], where: str) -> None:
    """Hold a control that names a teacher to those of the suite.

    Raises:
        BadInputError: it names none of them.
    """
    label = control.reads.label if control else None
    if label is not None and label not in labels:
        known = nearest(label, labels) if label else f"; one of {', '.join(labels)}"
        raise BadInputError(f"{where}.control.teacher: {label!r} is no teacher of this suite{known}")


def read_teacher(
    control: Chosen | None, teacher: PlannedTeacher, teachers: Mapping[str, PlannedTeacher]
) -> PlannedTeacher:
    """Give the teacher that is read in the cells of `teacher`: itself, or the one that a control names."""
    label = control.reads.label if control else None
    return teacher if label is None else teachers[label]


def same_teacher(control: Chosen | None, teacher: PlannedTeacher) -> str | None:
    """Say that a control names the very teacher of the cell, or nothing."""
    if control is None or control.reads.label != teacher.label:
        return None
    return f"{control.entry.name} names {teacher.label}, which is the cell's own teacher"


def drawn(teacher: PlannedTeacher, use: TeacherUse, run: Run) -> TeacherUse:
    """Give `use` of a teacher with weights that are drawn for the run, by the law of its recipe."""
    architecture, head = teacher.architecture, teacher.teacher.head
    network = content_hash(
        {
            "architecture": architecture.declared(),
            "classes": head.num_classes if head else 0,
            "pixels": teacher.teacher.pixels.declared(),
        }
    )
    key = f"random:{run.recipe.initialisation}:{network}"
    return TeacherUse(
        name=use.name,
        pin=f"{key}:{run.seed}",
        key=key,
        image_size=use.image_size,
        version=use.version,
    )


def with_drawn_head(use: TeacherUse, run: Run) -> TeacherUse:
    """Give `use` of a teacher with a head that is drawn for the run."""
    return use.model_copy(update={"head": "random", "head_pin": f"random:{run.seed}", "head_key": "random"})
