"""Settings chosen on val: every value that was tried, and what it cost of the budget."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from vitkd_bench.report.contamination import seen_pictures
from vitkd_bench.report.gather import CellKey, Gathered, GatheredSearch
from vitkd_bench.report.words import setting, settings_text

VAL = "val"


@dataclass(frozen=True, slots=True)
class Tried:
    """One value with its top-1 accuracy on val, a fraction, mean over the search's seeds.

    `top1` is None while not all of its trials are finished; `failed` says that one has no result.
    """

    value: Any
    top1: float | None
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRow:
    """One setting of one cell's method: the whole sweep.

    `held` are the settings chosen before it, `chosen` is the place of the chosen value in `tried`, None while
    trials are open. `trials` are those of the cell over all its settings, `budget` what each method may
    spend. `also` names further students whose trials are the very same. `seen` names collections of these
    pictures that the teacher has seen.
    """

    dataset: str
    recipe: str
    teacher: str
    student: str
    method: str
    setting: str
    held: dict[str, Any]
    tried: tuple[Tried, ...]
    chosen: int | None
    trials: int
    budget: int | None
    also: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()

    @property
    def value(self) -> str:
        """What was chosen, or why nothing was yet."""
        if self.chosen is not None:
            return setting(self.tried[self.chosen].value)
        if any(tried.failed for tried in self.tried):
            return "not chosen: a trial failed"
        open_ = sum(tried.top1 is None for tried in self.tried)
        return f"not chosen yet: {open_} of {len(self.tried)} open"

    @property
    def asked(self) -> str:
        """The setting, with those that it was tried beside."""
        return f"{self.setting} (at {settings_text(self.held)})" if self.held else self.setting

    @property
    def spent(self) -> str:
        """Trials of the cell, over all its settings, out of the budget."""
        return f"{self.trials} of {self.budget}" if self.budget else str(self.trials)


def search_rows(found: Gathered) -> list[SearchRow]:
    """Give all searches, in the order of the plans; students with the very same trials share a row."""
    kept: dict[object, SearchRow] = {}
    for one in found.searches:
        search = one.search
        runs = tuple(tuple(sorted(by_seed.items())) for by_seed in search.runs)
        place = (search.dataset, one.recipe, search.teacher, search.method, search.setting, runs)
        row = kept.setdefault(place, _row(found, one))
        if search.student not in {row.student, *row.also}:
            kept[place] = replace(row, also=(*row.also, search.student))
    return sorted(kept.values(), key=lambda row: (row.dataset, row.recipe))


def _row(found: Gathered, one: GatheredSearch) -> SearchRow:
    search = one.search
    cell = [s for s in found.searches if s.cell == one.cell]
    return SearchRow(
        dataset=search.dataset,
        recipe=one.recipe,
        teacher=search.teacher,
        student=search.student,
        method=search.method,
        setting=search.setting,
        held=search.held,
        tried=tuple(
            _tried(found, value, runs.values())
            for value, runs in zip(search.values, search.runs, strict=True)
        ),
        chosen=search.chosen,
        trials=sum(len(s.search.values) for s in cell),
        budget=one.budget,
        seen=_seen(found, one),
    )


def _seen(found: Gathered, one: GatheredSearch) -> tuple[str, ...]:
    label = one.search.teacher
    teacher = next(plan.teachers[label] for plan in found.plans if label in plan.teachers)
    ids = [id_ for runs in one.search.runs for id_ in runs.values()]
    return seen_pictures(found, teacher, ids, found.runs[ids[0]].dataset.pictures)


def _tried(found: Gathered, value: Any, ids: Iterable[str]) -> Tried:
    records = [found.records.get(id_) for id_ in ids]
    scores = [r.metrics[VAL]["top1"] for r in records if r and "top1" in r.metrics.get(VAL, {})]
    failed = any(record and record.status == "failed" for record in records)
    return Tried(value, sum(scores) / len(scores) if len(scores) == len(records) else None, failed)


def chosen_settings(found: Gathered, key: CellKey) -> dict[str, Any]:
    """Give the settings of a cell that were chosen on val, in the order of the choice."""
    names = (key.dataset, key.recipe, key.teacher, key.student, key.method)
    searches = [one.search for one in found.searches if one.cell == names]
    return {s.setting: s.values[s.chosen] for s in searches if s.chosen is not None}


def trials_spent(found: Gathered, key: CellKey) -> int:
    """Count the trials of a cell's method; 0 where nothing was searched for."""
    names = (key.dataset, key.recipe, key.teacher, key.student, key.method)
    return sum(len(one.search.values) for one in found.searches if one.cell == names)


def trial_labels(found: Gathered) -> dict[str, str]:
    """Name every trial by its cell, setting and value; those that are a cell's run as well are left out."""
    labels: dict[str, str] = {}
    for one in found.searches:
        search = one.search
        where = f"{search.teacher}:{search.student}:{search.method}:{search.dataset}"
        for value, runs in zip(search.values, search.runs, strict=True):
            for id_ in found.trials.intersection(runs.values()):
                labels.setdefault(id_, f"trial of {where} {search.setting}={setting(value)}")
    return labels
