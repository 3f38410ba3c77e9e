"""Which teacher a run reads: the cell's, with a head that fits its data, or one that is made for it first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from vitkd_bench.contracts import CellFacts, TeacherRun
from vitkd_bench.plan.controls import drawn, with_drawn_head
from vitkd_bench.plan.teachers import PlannedTeacher, Preparations
from vitkd_bench.plan.texts import unspeakable, with_text_head
from vitkd_bench.plan.variants import Variant
from vitkd_bench.registry import METHODS, RECIPES, MethodEntry
from vitkd_bench.spec import (
    SELF,
    Head,
    MethodUse,
    Recipe,
    ResolvedDataset,
    Run,
    Settings,
    Teacher,
    TeacherUse,
)

PROBE = "linear_probe"
"""The method that fits a head to frozen features, and the recipe under which it stands in its run's id."""


def probed(teacher: Teacher, dataset: ResolvedDataset) -> Teacher:
    """Give the contract of a teacher with a linear probe for the classes of `dataset` as its head."""
    return headed(teacher, dataset, "probe")


def headed(teacher: Teacher, dataset: ResolvedDataset, kind: Literal["probe", "text"]) -> Teacher:
    """Give the contract of a teacher with a head of that kind for the classes of `dataset`."""
    head = Head(kind=kind, label_space=dataset.label_space, num_classes=len(dataset.classes))
    return teacher.model_copy(update={"head": head})


def cell_facts(teacher: PlannedTeacher, entry: MethodEntry, config: Settings, cell: CellFacts) -> CellFacts:
    """Give the facts of a cell as a method meets them: with a probe or texts, where asked for and read."""
    if teacher.head != "own" and _reads_logits(entry, config) and cell.teacher is not None:
        return replace(cell, teacher=headed(cell.teacher, cell.dataset, teacher.head))
    return cell


def variant_facts(teacher: PlannedTeacher, method: Variant, cell: CellFacts) -> CellFacts:
    """Give the same facts under a control too: where it gives the teacher another head, with that head."""
    if method.control and method.control.reads.drawn == "head" and cell.teacher is not None:
        return replace(cell, teacher=probed(cell.teacher, cell.dataset))
    return cell_facts(teacher, method.entry, method.config, cell)


def refused(method: Variant, teacher: PlannedTeacher, cell: CellFacts) -> str | None:
    """Say in one sentence why a method cannot work in a cell, or a run that must come first; or nothing."""
    facts = variant_facts(teacher, method, cell)
    why = without_texts(method, teacher, cell.dataset) or method.entry.refuses(method.config, facts)
    reads_logits = _reads_logits(method.entry, method.config)
    if why and reads_logits and teacher.head == "own" and facts.teacher_classes is None:
        of_texts = "head: text makes one of class names, " if teacher.teacher.text_encoder else ""
        return f"{why}; {of_texts}head: probe at the teacher fits one to the data"
    if why:
        return why
    for request in _chain(method.entry.method.teacher_run(method.config, facts)):
        entry, config = _of(request)
        own = replace(facts, student=request.student or facts.student)
        if request.reads == "cell" and (
            why := _no_texts(teacher, entry, config, cell.dataset)
            or entry.refuses(config, cell_facts(teacher, entry, config, own))
        ):
            return f"the run that {method.entry.name} needs first cannot be made: {why}"
    return method.control.refuses(method.entry, method.config, facts) if method.control else None


def without_texts(method: Variant, teacher: PlannedTeacher, dataset: ResolvedDataset) -> str | None:
    """Say in one sentence why a method gets no logits of texts where the suite asks for them, or nothing.

    It holds whether the teacher's weights are at hand or not.
    """
    control = method.control
    instead = control.reads.drawn if control else None
    if instead == "head":
        return None
    why = _no_texts(teacher, method.entry, method.config, dataset)
    texts = teacher.head == "text" and _reads_logits(method.entry, method.config)
    if control and instead == "weights" and texts and not why:
        return f"{control.entry.name} draws an image tower, and no text tower for head: text"
    return why


def _no_texts(
    teacher: PlannedTeacher, entry: MethodEntry, config: Settings, dataset: ResolvedDataset
) -> str | None:
    if teacher.head != "text" or not _reads_logits(entry, config):
        return None
    return teacher.textless or unspeakable(dataset) or teacher.untokenized


@dataclass(frozen=True, slots=True)
class Uses:
    """Finds the teacher of each run of one cell, and plans what must be made first."""

    teacher: PlannedTeacher
    cell: CellFacts
    preparations: Preparations

    def of(self, method: Variant, run: Run) -> TeacherUse | None:
        """Give the teacher that `run`, yet without one, reads under `method`."""
        facts = variant_facts(self.teacher, method, self.cell)
        request = method.entry.method.teacher_run(method.config, facts)
        if request:
            return self._made(request, run)
        use, instead = self.teacher.use, method.control.reads.drawn if method.control else None
        if use is None or not method.entry.reads_teacher:
            return None
        if instead == "head":
            return with_drawn_head(use, run)
        read = drawn(self.teacher, use, run) if instead else use
        return self._own(method.entry, method.config, read, run.recipe)

    def _own(
        self, entry: MethodEntry, config: Settings, use: TeacherUse | None, recipe: Recipe
    ) -> TeacherUse | None:
        """Give a teacher with a probe or texts for its head, where these are asked for and logits read."""
        if not entry.reads_teacher or use is None:
            return None
        if self.teacher.head == "own" or not _reads_logits(entry, config):
            return use
        if self.teacher.head == "text":
            return with_text_head(use, self.cell.dataset, self.teacher.tokenizer)
        fit = self._probe(use, recipe)
        self.preparations.add(fit, f"linear probe on {self.teacher.label}")
        return use.model_copy(update={"head": "probe", "head_pin": f"run:{fit.id}", "head_key": fit.cell_key})

    def _probe(self, use: TeacherUse, recipe: Recipe) -> Run:
        """Plan a probe on images that are shown as the cell evaluates them."""
        shown = {"eval_crop": recipe.eval_crop}
        return Run(
            student=self.teacher.architecture,
            method=MethodUse(name=PROBE, version=METHODS.get(PROBE).version),
            teacher=use,
            dataset=self.cell.dataset,
            recipe=RECIPES.get(PROBE).model_copy(update=shown),
            seed=0,
        )

    def _made(self, request: TeacherRun, run: Run) -> TeacherUse:
        """Plan the run that makes a teacher, after those that it needs itself."""
        entry, config = _of(request)
        if isinstance(request.reads, TeacherRun):
            read: TeacherUse | None = self._made(request.reads, run)
        else:
            read = self._own(entry, config, self.teacher.use, run.recipe) if request.reads == "cell" else None
        made = Run(
            student=request.student or run.student,
            method=MethodUse(name=entry.name, version=entry.version, settings=config.declared()),
            teacher=read,
            dataset=run.dataset,
            recipe=_recipe(request, run.recipe),
            seed=run.seed,
        )
        name = read.name if read else SELF
        self.preparations.add(made, f"{entry.name} of {name} at seed {run.seed}")
        return TeacherUse(
            name=name,
            pin=f"run:{made.id}",
            key=made.cell_key,
            image_size=made.student.image_size,
            version=read.version if read else 1,
        )


def _reads_logits(entry: MethodEntry, config: Settings) -> bool:
    return "logits" in entry.needs_under(config)


def _of(request: TeacherRun) -> tuple[MethodEntry, Settings]:
    entry = METHODS.get(request.method)
    return entry, entry.method.Config.parse(dict(request.settings), f"the teacher made by {request.method}")


def _recipe(request: TeacherRun, recipe: Recipe) -> Recipe:
    return recipe if request.epochs is None else recipe.model_copy(update={"epochs": request.epochs})


def _chain(request: TeacherRun | None) -> Iterator[TeacherRun]:
    while request is not None:
        yield request
        request = request.reads if isinstance(request.reads, TeacherRun) else None
