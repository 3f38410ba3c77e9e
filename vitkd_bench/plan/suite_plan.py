"""From a suite and an inventory to a plan: cells, refusals, runs, preparations, packs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from vitkd_bench.contracts import CellFacts
from vitkd_bench.plan.baseline import BASELINE, baseline_of
from vitkd_bench.plan.controls import read_teacher, same_teacher
from vitkd_bench.plan.evaluation import planned_evaluation
from vitkd_bench.plan.inventory import Inventory
from vitkd_bench.plan.packs import make_packs
from vitkd_bench.plan.search import Finished, Searching, trials_of
from vitkd_bench.plan.suite_file import SuiteFile
from vitkd_bench.plan.teachers import PlannedTeacher, Preparations, planned_teachers
from vitkd_bench.plan.uses import Uses, refused, without_texts
from vitkd_bench.plan.variants import Variant, variants
from vitkd_bench.registry import RECIPES
from vitkd_bench.spec import (
    Architecture,
    BadInputError,
    Cell,
    Plan,
    Recipe,
    Refusal,
    ResolvedDataset,
    Run,
    StudentEntry,
    nearest,
    resolve_student,
)


def resolve_recipe(suite_file: SuiteFile) -> Recipe:
    """Give the suite's recipe, with its changes.

    Raises:
        BadInputError: an unknown recipe or field, or a bad value.
    """
    asked = suite_file.suite.recipe
    where = suite_file.place("recipe")
    base = RECIPES.get(asked.base, where)
    if not asked.changes:
        return base
    return Recipe.parse({**base.plain(), **asked.changes}, where)


def plan_suite(
    suite_file: SuiteFile,
    inventory: Inventory,
    only: Sequence[str] = (),
    finished: Finished | None = None,
) -> Plan:
    """Resolve a whole suite; nothing is started and nothing is written.

    Args:
        suite_file: the suite.
        inventory: what is at hand.
        only: patterns `teacher:student:method:dataset`; cells that match none are left out, baselines of
            cells that match are kept.
        finished: metrics on val of the runs that are finished, by run id: what searches choose by.

    Raises:
        BadInputError: an unknown name or a bad value, by file and field.
    """
    searching = Searching(suite_file.suite.search.seeds, finished or {})
    return _Planner(suite_file, inventory, tuple(only), Preparations(inventory), searching).plan()


@dataclass(slots=True)
class _Planner:
    suite_file: SuiteFile
    inventory: Inventory
    only: tuple[str, ...]
    preparations: Preparations
    searching: Searching
    teachers: dict[str, PlannedTeacher] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    runs: dict[str, Run] = field(default_factory=dict)
    waiting: int = 0

    def plan(self) -> Plan:
        suite = self.suite_file.suite
        recipe = resolve_recipe(self.suite_file)
        preparations = self.preparations
        teachers = planned_teachers(self.suite_file, recipe, self.inventory, preparations)
        self.teachers = {teacher.label: teacher for teacher in teachers}
        methods = variants(self.suite_file)
        _check_only(self.only)
        for dataset, teacher, student, method in itertools.product(
            [entry.label for entry in suite.datasets], teachers, suite.students, methods
        ):
            self._cell(dataset, teacher, student, method, recipe)
        self._check_exclusions(teachers, methods)
        self.runs = {**self.searching.runs, **self.runs}
        needed = _needed(self.runs, preparations.runs)
        evaluation = planned_evaluation(self.suite_file, self.inventory, self.runs.values())
        return Plan(
            suite=suite.suite,
            resolved={"suite": suite.plain(), "recipe": recipe.plain()},
            cells=tuple(self.cells),
            refusals=tuple(self.refusals),
            runs=self.runs,
            preparations=needed,
            prepares={id_: preparations.prepares[id_] for id_ in needed},
            packs=make_packs(needed, self.runs),
            teachers={teacher.label: teacher.facts() for teacher in teachers},
            methods={method.label: method.facts() for method in methods},
            sources={
                teacher.use.pin: source
                for teacher in teachers
                if teacher.use
                and not isinstance(source := self.inventory.weights.get(teacher.label), str | None)
            },
            evaluate=evaluation.splits,
            shift_sets=evaluation.shift_sets,
            absent=evaluation.absent,
            extensions=tuple(str((self.suite_file.folder / name).resolve()) for name in suite.extensions),
            searches=tuple(self.searching.done),
            waiting=self.waiting,
            keep=suite.keep,
        )

    def _cell(
        self, dataset: str, teacher: PlannedTeacher, student: StudentEntry, method: Variant, recipe: Recipe
    ) -> None:
        names = {
            "teacher": teacher.label,
            "student": student.label,
            "method": method.label,
            "dataset": dataset,
        }
        if not self._wanted(names, baseline=method.entry.name == BASELINE):
            return
        refusal = self._refusal(names, teacher, student, method, recipe)
        if refusal:
            self.refusals.append(refusal)
            return
        data = self._dataset(dataset)
        architecture = _student(student, teacher, recipe)
        read = read_teacher(method.control, teacher, self.teachers)
        uses = Uses(read, _facts(read, architecture, data, recipe), self.preparations)

        def run_of(chosen: Variant, seed: int) -> Run:
            bare = Run(student=architecture, method=chosen.use(), dataset=data, recipe=recipe, seed=seed)
            return bare.with_method(bare.method, uses.of(chosen, bare))

        chosen = self.searching.chosen(names, method, run_of)
        if chosen is None:
            self.waiting += 1
            return
        runs, baselines = {}, {}
        for seed in self.suite_file.suite.seeds:
            run = run_of(chosen, seed)
            runs[str(seed)] = run.id
            baselines[str(seed)] = baseline_of(run).id
            self.runs.setdefault(run.id, run)
        self.cells.append(Cell(**names, runs=runs, baselines=baselines))

    def _dataset(self, label: str) -> ResolvedDataset:
        found = self.inventory.datasets[label]
        if isinstance(found, str):
            raise TypeError(f"{label} is not at hand: {found}")  # its cells were refused before
        return found

    def _refusal(
        self,
        names: dict[str, str],
        teacher: PlannedTeacher,
        student: StudentEntry,
        method: Variant,
        recipe: Recipe,
    ) -> Refusal | None:
        for excluded in self.suite_file.suite.exclude:
            if all(fnmatchcase(names[part], getattr(excluded, part)) for part in names):
                return Refusal(**names, kind="excluded", reason=excluded.because)
        dataset = self.inventory.datasets[names["dataset"]]
        if isinstance(dataset, str):
            return Refusal(**names, kind="not_fetched", reason=dataset)
        read = read_teacher(method.control, teacher, self.teachers)
        if why := without_texts(method, read, dataset):
            amendable = why == read.untokenized
            return Refusal(**names, kind="not_fetched" if amendable else "impossible", reason=why)
        for each in (teacher, read):
            if each.use is None:
                return Refusal(**names, kind="not_fetched", reason=each.missing or "not fetched")
            if each.refused:
                return Refusal(**names, kind="preflight", reason=f"{each.label}: {each.refused}")
        architecture = _student(student, teacher, recipe)
        facts = _facts(read, architecture, dataset, recipe)
        reason = (
            _impossible(teacher, architecture, dataset)
            or same_teacher(method.control, teacher)
            or next((why for each in trials_of(method) if (why := refused(each, read, facts))), None)
        )
        return Refusal(**names, kind="impossible", reason=reason) if reason else None

    def _wanted(self, names: dict[str, str], *, baseline: bool) -> bool:
        if not self.only:
            return True
        parts = [names["teacher"], names["student"], names["method"], names["dataset"]]
        for pattern in self.only:
            globs = pattern.split(":")
            hits = [fnmatchcase(part, glob) for part, glob in zip(parts, globs, strict=False)]
            if all(hits) or (baseline and all(hits[:2] + hits[3:])):
                return True
        return False

    def _check_exclusions(self, teachers: list[PlannedTeacher], methods: list[Variant]) -> None:
        """Refuse an exclusion that can match nothing: it is a slip, and would go unnoticed."""
        suite = self.suite_file.suite
        known = {
            "teacher": [teacher.label for teacher in teachers],
            "student": [student.label for student in suite.students],
            "method": [method.label for method in methods],
            "dataset": [dataset.label for dataset in suite.datasets],
        }
        for i, excluded in enumerate(suite.exclude):
            for part, labels in known.items():
                glob = getattr(excluded, part)
                if not any(fnmatchcase(label, glob) for label in labels):
                    where = f"{self.suite_file.path}: exclude.{i}.{part}"
                    raise BadInputError(
                        f"{where}: {glob!r} matches nothing in this suite{nearest(glob, labels)}"
                    )


def _facts(
    teacher: PlannedTeacher, student: Architecture, dataset: ResolvedDataset, recipe: Recipe
) -> CellFacts:
    return CellFacts(
        student=student,
        dataset=dataset,
        teacher=teacher.teacher,
        teacher_architecture=teacher.architecture,
        recipe=recipe,
    )


def _student(entry: StudentEntry, teacher: PlannedTeacher, recipe: Recipe) -> Architecture:
    """Resolve a student at the recipe's image size, or else at that at which the teacher is used.

    Raises:
        BadInputError: patches of this teacher do not divide that size.
    """
    student = resolve_student(entry, teacher.architecture)
    if recipe.image_size in {None, student.image_size}:
        return student
    try:
        return student.with_(image_size=recipe.image_size)
    except ValueError:
        raise BadInputError(
            f"recipe.image_size: {recipe.image_size} px is no multiple of {student.patch} px, the patch of "
            f"students of {teacher.label}"
        ) from None


def _impossible(teacher: PlannedTeacher, student: Architecture, dataset: ResolvedDataset) -> str | None:
    ours, theirs = dataset.channels, student.channels
    if ours != theirs:
        return f"{dataset.name} has images of {ours} channel(s), {teacher.label} reads {theirs}"
    side = dataset.image_size
    if side and side < student.image_size and teacher.teacher.group == "micro":
        return f"{dataset.name} has images of {side} px, {teacher.label} reads {student.image_size} px"
    return None


def _needed(runs: dict[str, Run], preparations: dict[str, Run]) -> dict[str, Run]:
    """Keep the preparations that some run reads, and those that these read, in the order of making."""
    wanted = {made for run in runs.values() if run.teacher for made in run.teacher.preparations}
    kept: dict[str, Run] = {}
    for id_, run in reversed(preparations.items()):
        if id_ in wanted:
            kept[id_] = run
            wanted.update(run.teacher.preparations if run.teacher else ())
    return dict(reversed(kept.items()))


def _check_only(only: tuple[str, ...]) -> None:
    for pattern in only:
        if pattern.count(":") > 3:
            raise BadInputError(
                f"--only {pattern!r}: write it as teacher:student:method:dataset, with * for all"
            )
