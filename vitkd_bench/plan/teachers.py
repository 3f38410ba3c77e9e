"""The teachers of a suite: at which size they are used, and how each is pinned."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeVar

from vitkd_bench.plan.inventory import Inventory
from vitkd_bench.plan.suite_file import SuiteFile
from vitkd_bench.plan.texts import textless
from vitkd_bench.registry import METHODS, RECIPES, TEACHERS, fetch_command
from vitkd_bench.spec import (
    SELF,
    Architecture,
    BadInputError,
    Head,
    MethodUse,
    PositionInterpolation,
    Recipe,
    Run,
    Source,
    Teacher,
    TeacherEntry,
    TeacherFacts,
    TeacherUse,
    Training,
)

Asked = TypeVar("Asked", bound=str)


@dataclass(frozen=True, slots=True)
class PlannedTeacher:
    """A teacher under the suite's name, at the image size in pixels at which it is used.

    `use` is None and `missing` says why where its weights are not on this machine; `refused` says why those
    that are there are not to be used. `head` is what the suite says of where its logits come from. Of a
    `text` one `tokenizer` is the hash of the tokenizer's files, if there are any; `textless` says why it
    cannot be made, `untokenized` what it needs that is not on this machine.
    """

    label: str
    teacher: Teacher
    architecture: Architecture
    use: TeacherUse | None
    missing: str | None = None
    refused: str | None = None
    own_weights: bool = False
    head: Literal["own", "probe", "text"] = "own"
    tokenizer: str | None = None
    textless: str | None = None
    untokenized: str | None = None

    def facts(self) -> TeacherFacts:
        """Give what a report says of the teacher."""
        return TeacherFacts(
            name=self.teacher.name,
            family=self.teacher.family,
            group=self.teacher.group,
            outcome=self.teacher.outcome,
            seen=self.teacher.seen,
            components=self.teacher.native_components,
            own_weights=self.own_weights,
        )


@dataclass(slots=True)
class Preparations:
    """The runs that others need first, by id, each after those that it needs itself."""

    inventory: Inventory
    runs: dict[str, Run] = field(default_factory=dict)
    prepares: dict[str, str] = field(default_factory=dict)

    def use(self, teacher: Teacher) -> TeacherUse | str:
        """Plan the run that makes `teacher`, or say why it cannot be made."""
        run = self.run(teacher)
        if isinstance(run, str):
            return run
        self.add(run, teacher.name)
        return TeacherUse(
            name=teacher.name,
            pin=f"run:{run.id}",
            key=run.cell_key,
            image_size=teacher.architecture.image_size,
            version=teacher.version,
        )

    def add(self, run: Run, makes: str) -> None:
        """Plan a run whose needs are planned already; `makes` is what people call its product."""
        self.runs.setdefault(run.id, run)
        self.prepares[run.id] = makes

    def run(self, teacher: Teacher) -> Run | str:
        """Resolve the pretraining run of a micro teacher."""
        training = teacher.training
        if training is None:
            return f"{teacher.name} is not trained here and its weights are not at hand"
        dataset = self.inventory.training.get(
            training.dataset, f"data set {training.dataset} was not looked for"
        )
        if isinstance(dataset, str):
            return dataset
        read = self.use(TEACHERS.get(training.teacher)) if training.teacher else None
        if isinstance(read, str):
            return read
        return Run(
            student=teacher.architecture,
            method=MethodUse(name=training.method, version=METHODS.get(training.method).version),
            teacher=read,
            dataset=dataset,
            recipe=RECIPES.get(training.recipe),
            seed=training.seed,
        )


def planned_teachers(
    suite_file: SuiteFile, recipe: Recipe, inventory: Inventory, preparations: Preparations
) -> list[PlannedTeacher]:
    """Resolve the teachers of a suite.

    Raises:
        BadInputError: an unknown teacher, or an image size that its patches do not divide.
    """
    found = []
    for i, entry in enumerate(suite_file.suite.teachers):
        where = suite_file.place("teachers", i)
        teacher = TEACHERS.get(entry.name, where)
        side = entry.image_size or recipe.image_size or teacher.architecture.image_size
        try:
            architecture = teacher.architecture.with_(image_size=side)
        except ValueError as error:
            message = str(error).split("Value error, ")[-1].split(" [type=")[0]
            raise BadInputError(f"{where}.image_size: {message}") from None
        if entry.position_interpolation == "official" and teacher.position_interpolation != "official":
            raise BadInputError(
                f"{where}.position_interpolation: {teacher.name} has no official way; use timm"
            )
        weights = inventory.weights.get(entry.label)
        use = _use(entry, teacher, side, weights, preparations)
        found.append(
            PlannedTeacher(
                label=entry.label,
                teacher=teacher,
                architecture=architecture,
                use=None if isinstance(use, str) else use,
                missing=use if isinstance(use, str) else None,
                refused=weights.refused if isinstance(weights, Source) else None,
                own_weights=entry.weights is not None,
                head=entry.head,
                tokenizer=weights.tokenizer if isinstance(weights, Source) else None,
                textless=textless(entry, teacher, weights),
                untokenized=weights.untokenized if isinstance(weights, Source) else None,
            )
        )
    return found


def _use(
    entry: TeacherEntry,
    teacher: Teacher,
    side: int,
    weights: Source | str | None,
    preparations: Preparations,
) -> TeacherUse | str:
    if isinstance(weights, Source):
        pin = f"sha256:{weights.sha256}"
        return TeacherUse(
            name=teacher.name,
            pin=pin,
            key=pin,
            image_size=side,
            version=teacher.version,
            backend=_unless(entry.backend, teacher.sources and teacher.source().backend),
            position_interpolation=_interpolation(entry, teacher),
        )
    if isinstance(weights, str):
        return weights
    if teacher.training is None:
        command = fetch_command(teacher)
        return f"{teacher.name} is not fetched: {f'{command}, or ' if command else ''}give weights: FILE"
    if side != teacher.architecture.image_size:
        return f"{teacher.name} is made for {teacher.architecture.image_size} px and is not used at {side} px"
    return preparations.use(teacher)


def _interpolation(entry: TeacherEntry, teacher: Teacher) -> PositionInterpolation | None:
    """Give the way that is asked for, if it is another than the contract's and gives other numbers."""
    if teacher.architecture.registers:  # both ways are the same
        return None
    return _unless(entry.position_interpolation, teacher.position_interpolation)


def _unless(asked: Asked | None, own: object) -> Asked | None:
    """Leave out what the contract says anyway, so that saying it does not rename a run."""
    return None if asked == own else asked


def contract_of(use: TeacherUse, made_by: Run | None) -> tuple[Teacher, Architecture]:
    """Give the contract of the teacher that a run reads, and its architecture as the run uses it.

    `made_by` is the run that makes it, if one does. A teacher that is no entry of the registry (an assistant,
    an earlier self) has the contract that follows from its run: our own network with a head for its classes;
    one that is read from stored outputs has those classes too.
    """
    kind = METHODS.get(made_by.method.name).kind if made_by else None
    if made_by is None or kind == "pretraining":
        teacher = TEACHERS.get(use.name)
        if use.position_interpolation:
            teacher = teacher.model_copy(update={"position_interpolation": use.position_interpolation})
        return teacher, teacher.architecture.with_(image_size=use.image_size)
    data = made_by.dataset
    facts = Teacher(
        name=use.name,
        title=f"student of {made_by.method.name}" if kind != "store" else f"stored outputs of {use.name}",
        family=SELF if use.name == SELF else TEACHERS.get(use.name).family,
        group="micro" if use.name == SELF else TEACHERS.get(use.name).group,
        paper=METHODS.get(made_by.method.name).paper,
        licence="",
        architecture=made_by.student,
        pixels=data.pixels,
        head=Head(kind="labels", label_space=data.label_space, num_classes=len(data.classes)),
        training=Training(method=made_by.method.name, recipe=made_by.recipe.name, dataset=data.name),
        objective=made_by.method.name,
        seen=() if use.name == SELF else TEACHERS.get(use.name).seen,
    )
    return facts, made_by.student
