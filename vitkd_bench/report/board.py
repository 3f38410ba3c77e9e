"""The one table object from which every page is made."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitkd_bench.report.controls import ControlRow, control_rows, is_control
from vitkd_bench.report.families import FamilyRow, family_rows
from vitkd_bench.report.gather import Gathered, gather
from vitkd_bench.report.rows import Row, build_rows, folded, hardware
from vitkd_bench.report.searches import SearchRow, search_rows, trial_labels
from vitkd_bench.report.shifts import TEST, check_scoring
from vitkd_bench.spec import Record, Refusal


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A run that has a record and no result; `cells` are the plan's names of it."""

    run_id: str
    cells: tuple[str, ...]
    seed: int
    kind: str
    message: str
    step: int | None


@dataclass(frozen=True, slots=True)
class Protocol:
    """What makes the numbers of one data set and recipe comparable."""

    dataset: str
    recipe: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Provenance:
    """From where the numbers came: phrases with the number of runs each."""

    title: str
    counts: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A report's content, free of any format; `links` are record files by run id, relative to the report.

    `rows` hold methods and controls; `control_names` tells them apart, also where all cells are refused.
    `counts` are of runs without trials, which stand apart as `trials`; `waiting` are cells whose settings are
    not all chosen.
    """

    title: str
    rows: tuple[Row, ...]
    controls: tuple[ControlRow, ...]
    families: tuple[FamilyRow, ...]
    refusals: tuple[Refusal, ...]
    failed: tuple[FailedRun, ...]
    counts: dict[str, int]
    protocols: tuple[Protocol, ...]
    provenance: tuple[Provenance, ...]
    notes: tuple[str, ...]
    links: dict[str, str] = field(default_factory=dict)
    control_names: tuple[str, ...] = ()
    searches: tuple[SearchRow, ...] = ()

    def groups(self) -> dict[tuple[str, str], list[Row]]:
        """Rows as people read them, each run once and without controls, by data set and recipe."""
        found: dict[tuple[str, str], list[Row]] = {}
        for row in folded([row for row in self.rows if not is_control(row)]):
            found.setdefault((row.key.dataset, row.key.recipe), []).append(row)
        return found

    def control_groups(self) -> dict[tuple[str, str], list[ControlRow]]:
        """Controls as people read them, by data set and recipe."""
        found: dict[tuple[str, str], list[ControlRow]] = {}
        for control in self.controls:
            found.setdefault((control.row.key.dataset, control.row.key.recipe), []).append(control)
        return found

    def search_groups(self) -> dict[tuple[str, str], list[SearchRow]]:
        """Searches by data set and recipe."""
        found: dict[tuple[str, str], list[SearchRow]] = {}
        for search in self.searches:
            found.setdefault((search.dataset, search.recipe), []).append(search)
        return found

    def without_trials(self, dataset: str, recipe: str) -> list[str]:
        """Name the methods and controls that spent none: their settings are those that the suite gives."""
        rows = [row for row in self.rows if (row.key.dataset, row.key.recipe) == (dataset, recipe)]
        return sorted({row.key.method for row in rows if not row.trials and not row.is_baseline})

    @property
    def shifts(self) -> tuple[str, ...]:
        """All shift splits that some row has, sorted."""
        return tuple(sorted({split for row in self.rows for split in row.shifts}))

    @property
    def has_seen(self) -> bool:
        """Whether some number is of pictures that its teacher has seen."""
        searched = any(search.seen for search in self.searches)
        return searched or any(
            seen for row in self.rows for seen in (row.seen, *(score.seen for score in row.shifted.values()))
        )


def build_board(folders: Sequence[Path], out: Path) -> Board:
    """Make the content of a report.

    Args:
        folders: output folders of runs.
        out: the folder that the report will stand in; links are relative to it.

    Raises:
        BadInputError: a folder has no plan.
        VitkdError: a plan is damaged, or results must not stand in one table.
    """
    found = gather(folders)
    check_scoring(found)
    rows = build_rows(found)
    damage = [
        f"damaged, not counted: {Path(s.split(': ')[0]).name}: {s.partition(': ')[2]}" for s in _damage(found)
    ]
    absent = [f"not evaluated on {name}: {why}" for p in found.plans for name, why in p.absent.items()]
    return Board(
        title=" + ".join(dict.fromkeys(plan.suite for plan in found.plans)),
        rows=tuple(rows),
        controls=tuple(control_rows(rows)),
        families=tuple(family_rows(rows)),
        refusals=tuple(sorted(found.refusals, key=lambda r: (r.dataset, r.teacher, r.method, r.student))),
        failed=_failed(found),
        counts=_counts(found),
        protocols=_protocols(found, rows),
        provenance=_provenance(found),
        notes=(*found.notes, *absent, *damage),
        links=_links(found, out),
        searches=tuple(search_rows(found)),
        control_names=tuple(sorted({n for p in found.plans for n, m in p.methods.items() if m.control_of})),
    )


def _damage(found: Gathered) -> list[str]:
    return [sentence for store in found.stores for sentence in store.damage]


def _failed(found: Gathered) -> tuple[FailedRun, ...]:
    """Runs that failed, preparations first: what failed there explains what failed after it."""
    names = {id_: [label] for id_, label in trial_labels(found).items()}
    for key, cell in found.cells.items():
        for id_ in cell.runs.values():
            names.setdefault(id_, []).append(f"{key.teacher}:{key.student}:{key.method}:{key.dataset}")
    for plan in found.plans:
        for id_ in plan.preparations:
            names.setdefault(id_, []).append(f"preparation {plan.prepares.get(id_, id_)}")
    failed = [
        FailedRun(id_, tuple(names.get(id_, ())), r.seed, r.error.kind, r.error.message, r.error.step)
        for id_, r in found.records.items()
        if r.error
    ]
    return tuple(sorted(failed, key=lambda f: (not f.cells[0].startswith("preparation"), f.cells, f.seed)))


def _counts(found: Gathered) -> dict[str, int]:
    """How many runs (no preparations, no trials) are planned, done, failed, missing, stale; refused cells.

    Where settings are searched for, finished trials, all trials, and the cells that wait for them, besides.
    """
    planned = {id_ for plan in found.plans for id_ in plan.runs} - found.trials
    states = Counter(found.records[id_].status for id_ in planned if id_ in found.records)
    stale = len([id_ for id_ in planned if id_ in found.stale])
    return {
        "planned": len(planned),
        "done": states["done"],
        "failed": states["failed"],
        "missing": len(planned) - states.total() - stale,
        "stale": stale,
        "refused": len(found.refusals),
        **(_trials(found) if found.searches else {}),
    }


def _trials(found: Gathered) -> dict[str, int]:
    return {
        "trials": len(found.trials),
        "trials_done": sum(found.done(id_) is not None for id_ in found.trials),
        **({"waiting": waiting} if (waiting := sum(plan.waiting for plan in found.plans)) else {}),
    }


def _protocols(found: Gathered, rows: Iterable[Row]) -> tuple[Protocol, ...]:
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.key.dataset, row.key.recipe), []).append(row)
    return tuple(Protocol(*names, _protocol_facts(found, group)) for names, group in sorted(groups.items()))


def _protocol_facts(found: Gathered, rows: list[Row]) -> tuple[tuple[str, str], ...]:
    some = found.runs[next(iter(rows[0].run_ids.values()))]
    ids = [id_ for row in rows for id_ in row.run_ids.values()]
    records = [record for id_ in ids if (record := found.done(id_))]
    seeds = sorted({seed for row in rows for seed in row.run_ids})
    images = sorted({row.images for row in rows if row.images})
    data = some.dataset
    facts = {
        "data": f"{data.name}, {len(data.classes)} classes, label space {data.label_space}",
        "test images": ", ".join(map(str, images)) or "not known yet",
        "splits (hash)": ", ".join(sorted({r.split_hash for r in records if r.split_hash}))
        or "not known yet",
        "seeds": ", ".join(map(str, seeds)),
        "recipe": ", ".join(_settings(some.recipe.identity())),
        **_search_facts(found, rows[0]),
        "reported": f"last epoch on {TEST}; choices are made on val, never on {TEST}",
        "protocol (hash)": ", ".join(sorted({r.protocol for r in records})) or some.protocol,
        "versions": ", ".join(f"{name} {number}" for name, number in sorted(some.versions.items())),
    }
    return tuple(facts.items())


def _search_facts(found: Gathered, row: Row) -> dict[str, str]:
    """How settings were chosen for this data set and recipe, where some were."""
    searches = [s for s in found.searches if s.cell[:2] == (row.key.dataset, row.key.recipe)]
    if not searches:
        return {}
    seeds = sorted({int(seed) for one in searches for runs in one.search.runs for seed in runs})
    budgets = sorted({one.budget for one in searches if one.budget})
    most = f", at most {' or '.join(map(str, budgets))} trials a method and cell" if budgets else ""
    named = f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
    return {"settings chosen on val": f"under {named}{most}"}


def _settings(values: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for name, value in values.items():
        if isinstance(value, dict):
            found += _settings(value, f"{prefix}{name}.")
        else:
            found.append(f"{prefix}{name} {value}")
    return found


def _provenance(found: Gathered) -> tuple[Provenance, ...]:
    records = [r for id_, r in found.records.items() if r.status == "done" and id_ not in found.trials]
    parts = {
        "hardware": [hardware(r.provenance) for r in records],
        "code": [_code(r) for r in records],
        "libraries": [_libraries(r) for r in records],
        "teacher weights (sha256)": [text for r in records if (text := _weights(r))],
    }
    return tuple(
        Provenance(title, tuple(sorted(Counter(texts).items()))) for title, texts in parts.items() if texts
    )


def _code(record: Record) -> str:
    code = record.provenance.get("code")
    if not isinstance(code, dict) or not code.get("commit"):
        return "no commit recorded"
    return str(code["commit"])[:12] + (" with uncommitted changes" if code.get("dirty") else "")


def _libraries(record: Record) -> str:
    versions = record.provenance.get("versions")
    known = versions if isinstance(versions, dict) else {}
    return ", ".join(f"{name} {version}" for name, version in sorted(known.items())) or "not recorded"


def _weights(record: Record) -> str | None:
    digest = record.provenance.get("teacher_weights_sha256")
    return f"{record.cell.teacher} {str(digest)[:12]}" if digest else None


def _links(found: Gathered, out: Path) -> dict[str, str]:
    return {
        id_: Path(os.path.relpath(store.record_path(id_), out)).as_posix()
        for id_, store in found.homes.items()
    }
