"""Where an output folder stands: one row a run, and how many are in each state."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from vitkd_bench.records.locks import is_alive
from vitkd_bench.records.preparations import Preparations
from vitkd_bench.records.store import Store
from vitkd_bench.spec import Plan, Record, Run

State = Literal["done", "failed", "running", "missing", "damaged", "stale"]
STATES: tuple[State, ...] = ("done", "failed", "running", "missing", "damaged", "stale")
SILENT_AFTER = 300.0
"""Seconds without a heartbeat after which a run on another host is taken for dead."""


@dataclass(frozen=True, kw_only=True)
class StatusRow:
    """One run. `cells` are the plan's names of it; `why` explains every state but done and running.

    `progress`, `owner` and `heartbeat_age` (seconds) are those of the last heartbeat of a run not yet done.
    """

    run_id: str
    state: State
    kind: Literal["run", "preparation"]
    teacher: str | None
    student: str
    method: str
    dataset: str
    seed: int
    cells: tuple[str, ...] = ()
    why: str = ""
    step: int | None = None
    progress: dict[str, Any] | None = None
    owner: dict[str, Any] | None = None
    heartbeat_age: float | None = None


class _Finding(NamedTuple):
    state: State
    why: str = ""
    step: int | None = None


@dataclass(frozen=True, kw_only=True)
class StatusTable:
    """All runs of a plan in its order, preparations first; counts are of runs, without preparations."""

    suite: str
    counts: dict[str, int]
    rows: tuple[StatusRow, ...]
    refused: int
    unplanned: tuple[str, ...] = ()
    damage: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """Give all of it as plain JSON data."""
        return asdict(self)


def status(store: Store, preparations: Preparations | None = None) -> StatusTable:
    """Look at every run of a plan; touches no file.

    Args:
        store: the output folder.
        preparations: the cache in which preparations are looked for; without it they have no rows.

    Raises:
        BadInputError: the folder has no plan.
        DamagedFileError: its plan is damaged.
    """
    look = Store(store.folder, look_only=True)
    plan, records, beats = look.read_plan(), look.records(), look.beats()
    older = _older(plan, records)
    names = _cell_names(plan)
    damaged = {**_still_absent(look, records), **_without_predictions(look, records), **look.damaged_runs}
    rows = [_preparation(id_, run, preparations, records, beats) for id_, run in plan.preparations.items()]
    runs = [
        _row(
            id_,
            run,
            names.get(id_, ()),
            _state(id_, records, beats, damaged, older),
            beats.get(id_),
        )
        for id_, run in plan.runs.items()
    ]
    states = Counter(row.state for row in runs)
    planned = set(plan.all_runs()) | {id_ for ids in older.values() for id_ in ids}
    return StatusTable(
        suite=plan.suite,
        counts={state: states[state] for state in STATES},
        rows=tuple((rows if preparations else []) + runs),
        refused=len(plan.refusals),
        unplanned=tuple(sorted(set(records) - planned)),
        damage=tuple(look.damage),
    )


def stale_records(plan: Plan, records: Mapping[str, Record]) -> dict[str, tuple[str, ...]]:
    """By planned run that has no record of its own: records of the same cell and seed under another id.

    Such a record was made by other versions of engine, method or contract; it never counts.
    """
    return {id_: ids for id_, ids in _older(plan, records).items() if id_ not in records}


def _older(plan: Plan, records: Mapping[str, Record]) -> dict[str, tuple[str, ...]]:
    planned = plan.all_runs()
    by_key: dict[tuple[str, int], list[str]] = {}
    for id_, record in records.items():
        if id_ not in planned:
            by_key.setdefault((record.cell_key, record.seed), []).append(id_)
    found = {id_: by_key.get((run.cell_key, run.seed), []) for id_, run in planned.items()}
    return {id_: tuple(sorted(ids)) for id_, ids in found.items() if ids}


def _state(
    id_: str,
    records: Mapping[str, Record],
    beats: Mapping[str, dict[str, Any]],
    damaged: Mapping[str, str],
    older: Mapping[str, Iterable[str]],
) -> _Finding:
    """Find a run's state and why; a failed run that is tried again is running."""
    record, beat = records.get(id_), beats.get(id_)
    if record and record.status == "done" and id_ not in damaged:
        return _Finding("done")
    if beat and _lives(beat):
        return _Finding("running")
    if record and record.error:
        return _Finding("failed", f"{record.error.kind}: {record.error.message}", record.error.step)
    if id_ in damaged:
        return _Finding("damaged", damaged[id_])
    if id_ in older:
        return _Finding("stale", f"an older version of this run is there: {', '.join(older[id_])}")
    return _Finding("missing", "interrupted: whoever was at it is gone" if beat else "")


def _still_absent(store: Store, records: Mapping[str, Record]) -> dict[str, str]:
    """Why records were set aside that have not been made again since."""
    return {id_: reason for id_, reason in store.reasons().items() if id_ not in records}


def _without_predictions(store: Store, records: Mapping[str, Record]) -> dict[str, str]:
    done = (id_ for id_, record in records.items() if record.status == "done")
    absent = (id_ for id_ in done if not store.predictions_path(id_).exists())
    return {id_: f"{store.predictions_path(id_)}: missing beside its record" for id_ in absent}


def _lives(beat: Mapping[str, Any]) -> bool:
    alive = is_alive(beat["owner"])
    return _age(beat) < SILENT_AFTER if alive is None else alive


def _age(beat: Mapping[str, Any]) -> float:
    return max(0.0, time.time() - float(beat["time"]))


def _row(
    id_: str,
    run: Run,
    cells: tuple[str, ...],
    found: _Finding,
    beat: dict[str, Any] | None,
    kind: Literal["run", "preparation"] = "run",
) -> StatusRow:
    shown = beat if found.state != "done" else None
    return StatusRow(
        run_id=id_,
        state=found.state,
        kind=kind,
        teacher=run.teacher.name if run.teacher else None,
        student=cells[0].split(":")[1] if cells else "",
        method=run.method.name,
        dataset=run.dataset.name,
        seed=run.seed,
        cells=cells,
        why=found.why,
        step=found.step,
        progress=shown and shown["progress"],
        owner=shown and shown["owner"],
        heartbeat_age=_age(shown) if shown else None,
    )


def _preparation(
    id_: str,
    run: Run,
    preparations: Preparations | None,
    records: Mapping[str, Record],
    beats: Mapping[str, dict[str, Any]],
) -> StatusRow:
    found = preparations.peek(id_) if preparations else None
    known = {**records, id_: found} if found else records
    return _row(id_, run, (), _state(id_, known, beats, {}, {}), beats.get(id_), "preparation")


def _cell_names(plan: Plan) -> dict[str, tuple[str, ...]]:
    names: dict[str, list[str]] = {}
    for cell in plan.cells:
        for id_ in cell.runs.values():
            names.setdefault(id_, []).append(f"{cell.teacher}:{cell.student}:{cell.method}:{cell.dataset}")
    return {id_: tuple(cells) for id_, cells in names.items()}
