"""Plans and records of some output folders, put together, and never what does not belong together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vitkd_bench.records import Store, stale_records
from vitkd_bench.spec import MethodFacts, Plan, Record, Refusal, Run, Search, TeacherFacts, VitkdError


class MixedError(VitkdError):
    """Results that must not stand in one table: other splits, weights, versions or meanings."""


@dataclass(frozen=True, slots=True)
class CellKey:
    """What makes one row: the suite's names, the recipe's, and the hash of what they mean."""

    dataset: str
    recipe: str
    teacher: str
    student: str
    method: str
    meaning: str


@dataclass(slots=True)
class GatheredCell:
    """A cell of one or more plans: run ids by seed. `out` is the folder in which it was met first."""

    key: CellKey
    teacher: TeacherFacts
    method: MethodFacts
    out: Path
    pictures: tuple[str, ...] = ()
    runs: dict[int, str] = field(default_factory=dict)
    baselines: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GatheredSearch:
    """A search of a plan, with its recipe and the number of trials that each method may spend."""

    search: Search
    recipe: str
    budget: int | None

    @property
    def cell(self) -> tuple[str, ...]:
        """The names of the cell that it is for, in the order of `CellKey`."""
        asked = self.search
        return asked.dataset, self.recipe, asked.teacher, asked.student, asked.method


@dataclass(slots=True)
class Gathered:
    """All that a report is made from. Records and runs are by run id; `homes` says which folder holds it.

    `trials` are ids of runs that a search asks for and no cell. `rights` keeps, by run id, the ids of the
    test images and which of them are classified rightly; `files` keeps predictions of teachers, by path.
    """

    stores: list[Store] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)
    cells: dict[CellKey, GatheredCell] = field(default_factory=dict)
    searches: list[GatheredSearch] = field(default_factory=list)
    trials: frozenset[str] = frozenset()
    refusals: list[Refusal] = field(default_factory=list)
    runs: dict[str, Run] = field(default_factory=dict)
    records: dict[str, Record] = field(default_factory=dict)
    homes: dict[str, Store] = field(default_factory=dict)
    stale: dict[str, tuple[str, ...]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    rights: dict[str, tuple[list[str], np.ndarray] | None] = field(default_factory=dict)
    files: dict[Path, dict[str, np.ndarray] | None] = field(default_factory=dict)

    def done(self, run_id: str) -> Record | None:
        """The record of a finished run."""
        record = self.records.get(run_id)
        return record if record and record.status == "done" else None

    def kept(self, store: Store, name: str) -> dict[str, np.ndarray] | None:
        """Read a file of predictions once, however many rows ask for it; None if there is none."""
        path = store.predictions_path(name)
        if path not in self.files:
            self.files[path] = store.predictions(name)
        return self.files[path]

    def by_seed(self, runs: Mapping[int, str], split: str, metric: str) -> dict[int, float]:
        """Give one metric of the finished runs that have it, by seed."""
        records = {seed: self.done(id_) for seed, id_ in sorted(runs.items())}
        metrics = {seed: record.metrics.get(split, {}) for seed, record in records.items() if record}
        return {seed: values[metric] for seed, values in metrics.items() if metric in values}


def gather(folders: Sequence[Path]) -> Gathered:
    """Read plans and records of some output folders.

    Raises:
        BadInputError: a folder has no plan.
        DamagedFileError: a plan is damaged.
        MixedError: the same name means two things, or records differ in splits, weights or versions.
    """
    found = Gathered()
    for folder in folders:
        store = Store(folder, look_only=True)
        plan = store.read_plan()
        found.stores.append(store)
        found.plans.append(plan)
        records = store.records()
        _add_records(found, plan, store, records)
        for cell in plan.cells:
            _add_cell(found, plan, cell, folder)
        _add_searches(found, plan)
        found.refusals += [refusal for refusal in plan.refusals if refusal not in found.refusals]
        found.stale |= stale_records(plan, records)
    found.stale = {id_: ids for id_, ids in found.stale.items() if id_ not in found.records}
    in_cells = {
        id_ for cell in found.cells.values() for id_ in (*cell.runs.values(), *cell.baselines.values())
    }
    found.trials = frozenset().union(*(plan.trials for plan in found.plans)) - in_cells
    _check_names(found.cells.values(), found)
    _check_records(found)
    return found


def _add_records(found: Gathered, plan: Plan, store: Store, records: dict[str, Record]) -> None:
    """Take the records that the plan asks for: of two of one run a finished one, or the first."""
    planned = plan.all_runs()
    found.runs |= planned
    for id_, record in records.items():
        if id_ not in planned:
            continue
        other = found.done(id_)
        if other is None:
            found.records[id_], found.homes[id_] = record, store
        elif record.status == "done" and not same_result(record, other):
            found.notes.append(
                f"run {id_} has two results, in {found.homes[id_].folder.name} and in {store.folder.name}; "
                "the first is shown"
            )


def same_result(one: Record, two: Record) -> bool:
    """Say whether two records of one run agree in all that both have: an earlier one has fewer measures."""
    first, second = one.result(), two.result()
    measured = ("metrics", "metrics_val_selected", "scoring")
    agree = all(_agree(first.pop(part), second.pop(part)) for part in measured)
    return agree and first == second


def _agree(one: Any, two: Any) -> bool:
    if isinstance(one, dict) and isinstance(two, dict):
        return all(_agree(one[name], two[name]) for name in one.keys() & two.keys())
    return bool(one == two)


def _add_cell(found: Gathered, plan: Plan, cell: Any, folder: Path) -> None:
    some = plan.runs[next(iter(cell.runs.values()))]
    key = CellKey(
        dataset=cell.dataset,
        recipe=some.recipe.name,
        teacher=cell.teacher,
        student=cell.student,
        method=cell.method,
        meaning=some.cell_key,
    )
    if key not in found.cells:
        facts = plan.teachers[cell.teacher], plan.methods[cell.method]
        found.cells[key] = GatheredCell(key, *facts, out=folder, pictures=some.dataset.pictures)
    gathered = found.cells[key]
    for mine, theirs in ((gathered.runs, cell.runs), (gathered.baselines, cell.baselines)):
        for seed, id_ in theirs.items():
            before = mine.setdefault(int(seed), id_)
            if before != id_:
                raise MixedError(_two_versions(found, key, gathered.out, folder, (before, id_)))


def _add_searches(found: Gathered, plan: Plan) -> None:
    """Take the searches of a plan: of two over the same trials the one that has chosen."""
    budget = plan.resolved.get("suite", {}).get("search", {}).get("budget")
    known = {_unchosen(one): i for i, one in enumerate(found.searches)}
    for search in plan.searches:
        one = GatheredSearch(search, plan.runs[next(iter(search.runs[0].values()))].recipe.name, budget)
        place = known.get(_unchosen(one))
        if place is None:
            found.searches.append(one)
        elif search.chosen is not None:
            found.searches[place] = one


def _unchosen(one: GatheredSearch) -> str:
    return one.search.model_copy(update={"chosen": None}).model_dump_json()


def _two_versions(found: Gathered, key: CellKey, one: Path, two: Path, ids: tuple[str, str]) -> str:
    first, second = (found.runs[id_].versions for id_ in ids)
    names = [name for name in {**first, **second} if first.get(name) != second.get(name)]
    differ = [f"{name} {first.get(name)} and {second.get(name)}" for name in names]
    return (
        f"{_named(key)} is run {ids[0]} in {one} and run {ids[1]} in {two} (made by other versions: "
        f"{', '.join(differ) or 'of the teacher'}); report them apart, or run one of them again"
    )


def _named(key: CellKey) -> str:
    return f"{key.teacher}:{key.student}:{key.method}:{key.dataset}"


def _check_names(cells: Iterable[GatheredCell], found: Gathered) -> None:
    """Two cells of one name and one recipe mean one thing."""
    seen: dict[tuple[str, ...], GatheredCell] = {}
    for cell in cells:
        key = cell.key
        names = (key.dataset, key.recipe, key.teacher, key.student, key.method)
        other = seen.setdefault(names, cell)
        if other is not cell:
            one, two = (found.runs[next(iter(c.runs.values()))].plain() for c in (other, cell))
            differ = [part for part in one if part != "seed" and one[part] != two[part]]
            raise MixedError(
                f"{_named(key)} means two things, in {other.out} and in {cell.out}: they differ in "
                f"{', '.join(differ)}; report them apart, or name one with as: ..."
            )


def _check_records(found: Gathered) -> None:
    """All results of a data set are on one split, all of a teacher from one file of weights.

    A control may read another teacher than its cell's: what is compared is of the one that was read.
    """
    splits: dict[str, dict[str, str]] = {}
    weights: dict[str, dict[str, str]] = {}
    for dataset, label, teacher, id_ in asked_runs(found):
        record = found.done(id_)
        if record is None:
            continue
        if record.split_hash:
            splits.setdefault(dataset, {}).setdefault(record.split_hash, id_)
        digest = record.provenance.get("teacher_weights_sha256")
        if digest and record.cell.teacher:
            own = record.cell.teacher == teacher
            read = label if own else f"{record.cell.teacher} in cells of {label}"
            weights.setdefault(read, {}).setdefault(str(digest), id_)
    for kind, groups in (("data set", splits), ("teacher", weights)):
        what = "other samples" if kind == "data set" else "other weights"
        for name, by_hash in groups.items():
            if len(by_hash) > 1:
                (one, first), (two, second) = list(by_hash.items())[:2]
                raise MixedError(
                    f"{kind} {name}: run {first} ({_home(found, first)}) and run {second} "
                    f"({_home(found, second)}) have {what} ({one[:12]} and {two[:12]}); report them apart, "
                    "or run one of them again"
                )


def asked_runs(found: Gathered) -> Iterator[tuple[str, str, str, str]]:
    """Each run of a cell and each trial: data set, the suite's name of the teacher, its own, and the id."""
    for cell in found.cells.values():
        for id_ in (*cell.runs.values(), *cell.baselines.values()):
            yield cell.key.dataset, cell.key.teacher, cell.teacher.name, id_
    for plan in found.plans:
        for search in plan.searches:
            for id_ in (id_ for runs in search.runs for id_ in runs.values()):
                yield search.dataset, search.teacher, plan.teachers[search.teacher].name, id_


def _home(found: Gathered, run_id: str) -> Path:
    return found.homes[run_id].record_path(run_id)
