"""What the runs of a pack share: data, teacher, device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from vitkd_bench.contracts import Batch, CellFacts, Features
from vitkd_bench.engine.evaluated import Evaluated, ShiftSet, own_splits, shift_set
from vitkd_bench.engine.options import PackOptions
from vitkd_bench.engine.showing import Showing
from vitkd_bench.engine.stored import Outputs, read_stored
from vitkd_bench.engine.teacher import ReadTeacher, read_teacher
from vitkd_bench.engine.trainee import Trainee
from vitkd_bench.networks import ViTNetwork
from vitkd_bench.pipeline import Splits, TrainStream, open_splits
from vitkd_bench.plan import views_of
from vitkd_bench.records import Preparations
from vitkd_bench.registry import METHODS, TEACHERS
from vitkd_bench.spec import Failure, Plan, Recipe, Run


@dataclass
class Setting:
    """Everything that a pack's loop needs.

    `trainees` are in the order of the pack; `stillborn` are runs whose student or method could not be made.
    `views` are drawn of each image, of which the teacher sees number `teacher_view`. `stored` are outputs
    that are read in the place of `teacher`, which is None then. `preparing` says that what is trained here is
    read by other runs, `pretraining` that it makes a teacher of the registry. `waited_s` are the seconds that
    the loop waited for data.
    """

    plan: Plan
    recipe: Recipe
    seed: int
    views: int
    teacher_view: int
    showing: Showing
    splits: Splits
    shift_sets: dict[str, ShiftSet]
    teacher: ViTNetwork | None
    teacher_weights: dict[str, str | None]
    cell: CellFacts
    pretraining: bool
    preparing: bool
    has_head: bool
    num_classes: int
    stored: Outputs | None = None
    waited_s: float = 0.0
    trainees: list[Trainee] = field(default_factory=list)
    stillborn: list[tuple[Run, Failure]] = field(default_factory=list)

    @property
    def device(self) -> torch.device:
        """The device of all networks."""
        return self.showing.device

    @property
    def wanted(self) -> bool:
        """Whether some cell asks for what is trained here; others read it, or it is a trial of a search."""
        cells = self.plan.runs.keys() - self.plan.trials
        return any(trainee.run.id in cells for trainee in self.trainees)

    def begin(self, run: Run) -> None:
        """Draw a run's student and make its method; what a stranger's method raises ends that run alone."""
        try:
            self.trainees.append(self.fresh(run))
        except Exception as error:  # noqa: BLE001  (its record says what)
            message = " ".join(str(error).split())
            self.stillborn.append((run, Failure(kind=type(error).__name__, message=message)))

    def fresh(self, run: Run) -> Trainee:
        """Start a run anew."""
        return Trainee(run, _cell(run, self.cell, len(self.splits.train)), self.num_classes, self.device)

    def read(self, batch: Batch, taps: frozenset[str]) -> Features | None:
        """Give what `taps` name of the teacher on a batch, run or stored; None where nothing is read."""
        if not taps:
            return None
        if self.stored is not None:
            return self.stored.read(batch, taps)
        if self.teacher is None:
            return None
        bf16 = self.recipe.precision == "bfloat16"
        shown = batch.teacher_pixels
        if shown is None:
            shown = (batch.pixels, *batch.views)[self.teacher_view]
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            return self.teacher(shown, taps)

    def stream(self, epoch: int) -> TrainStream:
        """Give the batches of an epoch."""
        return TrainStream(
            self.splits.train,
            self.recipe,
            self.seed,
            self.views,
            epoch,
            teacher=self.showing.teacher,
            teacher_view=self.teacher_view,
        )

    def evaluated(self) -> Iterator[Evaluated]:
        """Give what the plan asks to evaluate on; of what it names none for val alone.

        Shift sets come last, after the test split that they are measured against.
        """
        named = [t.run.id for t in self.trainees if t.run.id in self.plan.runs]
        asked = dict.fromkeys(split for run in named for split in self.plan.splits_of(run))
        yield from own_splits(self.splits, [n for n in asked if n not in self.shift_sets] or ["val"])
        yield from (shift for name, shift in self.shift_sets.items() if name in asked)

    def notes(self, trainee: Trainee) -> Iterator[str]:
        """Say what the record lacks, and why; then what the method has to say."""
        if self.splits.skipped:
            yield f"{self.splits.skipped} images are left out, as the setting skip of the data set says"
        if self.pretraining:
            yield "k-NN on val (k = 10, cosine, pooled features), of this network and of it untrained"
        elif trainee.cell.teacher is None:
            yield "no agreement with a teacher: this method reads none"
        elif self.stored is not None:
            yield "no agreement with the teacher: outputs of it were stored, and it is not loaded"
        elif trainee.cell.teacher_classes is None:
            yield f"no agreement with the teacher: {trainee.cell.teacher.name} has no head for these classes"
        asked = self.plan.splits_of(trainee.run.id) if trainee.run.id in self.plan.runs else ()
        for name in (name for name in asked if name in self.shift_sets):
            yield from self.shift_sets[name].notes()
        yield from trainee.method.notes()
        yield from trainee.control.notes()


def settle(plan: Plan, runs: list[Run], preparations: Preparations, options: PackOptions) -> Setting:
    """Open the data, load the teacher and draw the students of some runs that share a stream.

    Raises:
        VitkdError: data or weights cannot be read.
    """
    first = runs[0]
    stored = read_stored(plan, runs, preparations)
    read = stored or read_teacher(plan, runs, preparations, torch.device(options.device))
    side = first.student.image_size
    showing = Showing.of(options, side, read if isinstance(read, ReadTeacher) else None)
    splits = open_splits(first.dataset, options.roots, side, showing.others, first.recipe.eval_crop)
    pretraining = METHODS.get(first.method.name).kind == "pretraining"
    num_classes = len(first.dataset.classes)
    views, teacher_view = views_of(first)
    if pretraining:
        made = TEACHERS.get(plan.prepares[first.id])
        num_classes = made.head.num_classes if made.head else 0
    setting = Setting(
        plan=plan,
        recipe=first.recipe,
        seed=first.seed,
        views=views,
        teacher_view=teacher_view,
        showing=showing,
        splits=splits,
        shift_sets=_shift_sets(plan, runs, splits, showing, options),
        teacher=read.network if isinstance(read, ReadTeacher) else None,
        teacher_weights=read.known if read else {},
        cell=CellFacts(
            first.student,
            first.dataset,
            read.contract if read else None,
            read.architecture if read else None,
        ),
        pretraining=pretraining,
        preparing=first.id in plan.preparations,
        has_head=num_classes > 0,
        num_classes=num_classes,
        stored=stored.outputs if stored else None,
    )
    for run in runs:
        setting.begin(run)
    return setting


def _shift_sets(
    plan: Plan, runs: list[Run], splits: Splits, showing: Showing, options: PackOptions
) -> dict[str, ShiftSet]:
    """Open the shift sets that these runs end with: what is wrong with them is to be said before training."""
    asked = dict.fromkeys(s for run in runs if run.id in plan.runs for s in plan.splits_of(run.id))
    crop, side = runs[0].recipe.eval_crop, splits.test.look.side
    found = {}
    for name in (name for name in asked if name in plan.shift_sets):
        shift = plan.shift_sets[name]
        opened = open_splits(shift, options.roots, side, showing.others, crop)
        found[name] = shift_set(name, shift, splits.dataset, opened)
    return found


def _cell(run: Run, shared: CellFacts, train_size: int) -> CellFacts:
    return CellFacts(
        run.student,
        run.dataset,
        shared.teacher if run.teacher else None,
        shared.teacher_architecture if run.teacher else None,
        run.recipe,
        train_size,
    )
