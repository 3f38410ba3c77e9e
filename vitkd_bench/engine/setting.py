"""What the runs of a pack share: data, teacher, device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from vitkd_bench.contracts import CellFacts, Examples
from vitkd_bench.engine.options import PackOptions
from vitkd_bench.engine.trainee import Trainee
from vitkd_bench.networks import ViTNetwork, load_teacher, weights_sha256
from vitkd_bench.pipeline import Splits, open_splits
from vitkd_bench.records import Preparations
from vitkd_bench.registry import METHODS, TEACHERS
from vitkd_bench.spec import Failure, Plan, Recipe, Run, Teacher, TeacherUse, WorldError


@dataclass
class Setting:
    """Everything that a pack's loop needs.

    `trainees` are in the order of the pack; `stillborn` are runs whose student or method could not be made.
    """

    plan: Plan
    recipe: Recipe
    seed: int
    views: int
    device: torch.device
    splits: Splits
    teacher: ViTNetwork | None
    teacher_weights: dict[str, str | None]
    cell: CellFacts
    pretraining: bool
    has_head: bool
    num_classes: int
    trainees: list[Trainee] = field(default_factory=list)
    stillborn: list[tuple[Run, Failure]] = field(default_factory=list)

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

    def evaluated(self) -> Iterator[tuple[str, Examples]]:
        """Give the splits that the plan asks for, by name."""
        name = self.trainees[0].run.dataset.name
        for split in self.plan.evaluate.get(name, ("val", "test")):
            if split in {"val", "test"}:
                yield split, getattr(self.splits, split)
            else:
                yield split, self.splits.shift(split.partition("/")[2])

    def notes(self, trainee: Trainee) -> Iterator[str]:
        """Say what the record lacks, and why; then what the method has to say."""
        if self.pretraining:
            yield "k-NN on val (k = 10, cosine, pooled features), of this network and of it untrained"
        elif trainee.cell.teacher is None:
            yield "no agreement with a teacher: this method reads none"
        elif trainee.cell.teacher_classes is None:
            yield f"no agreement with the teacher: {trainee.cell.teacher.name} has no head for these classes"
        yield from trainee.method.notes()


def settle(plan: Plan, runs: list[Run], preparations: Preparations, options: PackOptions) -> Setting:
    """Open the data, load the teacher and draw the students of some runs that share a stream.

    Raises:
        VitkdError: data or weights cannot be read.
    """
    first = runs[0]
    device = torch.device(options.device)
    splits = open_splits(first.dataset, options.roots, first.student.image_size)
    teacher, cell, weights = _teacher(plan, runs, preparations, device)
    pretraining = first.id in plan.preparations
    num_classes = len(first.dataset.classes)
    if pretraining:
        made = TEACHERS.get(plan.prepares[first.id])
        num_classes = made.head.num_classes if made.head else 0
    setting = Setting(
        plan=plan,
        recipe=first.recipe,
        seed=first.seed,
        views=METHODS.get(first.method.name).method.views,
        device=device,
        splits=splits,
        teacher=teacher,
        teacher_weights=weights,
        cell=cell,
        pretraining=pretraining,
        has_head=num_classes > 0,
        num_classes=num_classes,
    )
    for run in runs:
        setting.begin(run)
    return setting


def _cell(run: Run, shared: CellFacts, train_size: int) -> CellFacts:
    return CellFacts(
        run.student,
        run.dataset,
        shared.teacher if run.teacher else None,
        shared.teacher_architecture if run.teacher else None,
        run.recipe,
        train_size,
    )


def _teacher(
    plan: Plan, runs: list[Run], preparations: Preparations, device: torch.device
) -> tuple[ViTNetwork | None, CellFacts, dict[str, str | None]]:
    first = runs[0]
    use = next((run.teacher for run in runs if run.teacher), None)
    if use is None:
        return None, CellFacts(first.student, first.dataset), {}
    facts: Teacher = TEACHERS.get(use.name)
    architecture = facts.architecture.with_(image_size=use.image_size)
    path, known = _weights(plan, use, preparations)
    if use.position_interpolation:
        facts = facts.model_copy(update={"position_interpolation": use.position_interpolation})
    network = load_teacher(facts, architecture, path, use.backend).to(device)
    known["backend"] = network.backend
    return network, CellFacts(first.student, first.dataset, facts, architecture), known


def _weights(plan: Plan, use: TeacherUse, preparations: Preparations) -> tuple[Path, dict[str, str | None]]:
    if use.preparation:
        record = preparations.ready(use.preparation)
        if record is None or record.weights_sha256 is None:
            raise WorldError(f"teacher {use.name}: its preparation {use.preparation} is not there")
        return preparations.weights(use.preparation), {"sha256": record.weights_sha256}
    source = plan.sources[use.pin]
    found = weights_sha256(Path(source.path))
    if found != source.sha256:
        raise WorldError(
            f"teacher {use.name}: {source.path} has changed since the plan was made (sha256 {found[:12]})"
        )
    return Path(source.path), {"sha256": found, "preflight": source.preflight}
