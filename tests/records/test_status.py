"""What `status` says of an output folder."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitkd_bench.records import Preparations, StatusRow, StatusTable, Store, status
from vitkd_bench.spec import Plan, Record, Run

ARRAYS = {"test/label": np.arange(3)}


@pytest.fixture
def store(tmp_path: Path, plan: Plan) -> Store:
    """A store with the tiny plan and no record."""
    store = Store(tmp_path / "out")
    store.write_plan(plan)
    return store


def kd(table: StatusTable) -> StatusRow:
    """The row of the run of `kd`."""
    (row,) = [row for row in table.rows if row.method == "kd"]
    return row


def test_everything_is_missing_at_first(store: Store, plan: Plan) -> None:
    """Before anything runs, all planned runs are missing, under the plan's names."""
    table = status(store)
    assert table.counts == {"done": 0, "failed": 0, "running": 0, "missing": 2, "damaged": 0, "stale": 0}
    assert [row.run_id for row in table.rows] == list(plan.runs)
    assert kd(table).cells == ("micro/deit:standard:kd:digits",)
    assert json.loads(json.dumps(table.plain()))["suite"] == "tiny"


def test_done_and_failed(store: Store, plan: Plan, make_record: Callable[..., Record]) -> None:
    """A failed run says why and at which step; a done run without predictions is damaged."""
    none, second = plan.runs.values()
    store.write(make_record(none), ARRAYS)
    store.write(make_record(second, error={"kind": "non_finite_loss", "message": "loss inf", "step": 7}))
    table = status(store)
    assert (table.counts["done"], table.counts["failed"]) == (1, 1)
    assert (kd(table).why, kd(table).step) == ("non_finite_loss: loss inf", 7)
    store.predictions_path(none.id).unlink()
    assert status(store).counts["damaged"] == 1


def test_running_and_interrupted(store: Store, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run with a heartbeat of a living process runs; when the process is gone it is missing."""
    run_id = list(plan.runs)[1]
    store.beat(run_id, {"epoch": 3})
    row = kd(status(store))
    assert (row.state, row.progress) == ("running", {"epoch": 3})
    assert row.owner is not None
    assert row.owner["pid"] == os.getpid()
    assert row.heartbeat_age is not None
    assert row.heartbeat_age < 60

    def gone(_pid: int, _signal: int) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(os, "kill", gone)
    row = kd(status(store))
    assert (row.state, row.why) == ("missing", "interrupted: whoever was at it is gone")


def test_a_silent_run_on_another_host_is_not_running(store: Store, plan: Plan) -> None:
    """Of a process on another host only its heartbeat is known: five minutes of silence end it."""
    run_id = list(plan.runs)[1]
    store.beat(run_id, {})
    beat: dict[str, Any] = json.loads(store.live_path(run_id).read_text())
    beat["owner"]["host"] = "elsewhere"
    store.live_path(run_id).write_text(json.dumps(beat))
    assert kd(status(store)).state == "running"
    store.live_path(run_id).write_text(json.dumps({**beat, "time": beat["time"] - 1000}))
    assert kd(status(store)).state == "missing"


def test_damaged_before_and_after_it_is_set_aside(
    store: Store, plan: Plan, make_record: Callable[..., Record]
) -> None:
    """A damaged record is shown as damaged until the run is made again, whoever noticed it first."""
    run = list(plan.runs.values())[1]
    store.write(make_record(run), ARRAYS)
    store.record_path(run.id).write_bytes(b"{")
    assert kd(status(store)).state == "damaged"
    assert store.record_path(run.id).exists()
    assert store.read(run.id) is None
    row = kd(status(store))
    assert (row.state, "truncated" in row.why) == ("damaged", True)
    store.write(make_record(run), ARRAYS)
    assert kd(status(store)).state == "done"


def test_an_older_version_is_stale(
    store: Store, make_run: Callable[..., Run], make_record: Callable[..., Record]
) -> None:
    """The record of an older version of the same cell and seed does not count, and is named."""
    older = make_run("none", version=2)
    assert older.cell_key == make_run("none").cell_key
    unplanned = make_run("none", seed=9)
    store.write(make_record(older), ARRAYS)
    store.write(make_record(unplanned), ARRAYS)
    table = status(store)
    (row,) = [row for row in table.rows if row.method == "none"]
    assert row.state == "stale"
    assert older.id in row.why
    assert table.unplanned == (unplanned.id,)


def test_preparations_are_shown(
    store: Store, plan: Plan, tmp_path: Path, make_record: Callable[..., Record]
) -> None:
    """With a cache at hand preparations have rows of their own and are not counted as runs."""
    cache = Preparations(tmp_path / "cache")
    (made,) = plan.preparations.values()
    assert [row.state for row in status(store, cache).rows] == ["missing"] * 3
    cache.write(make_record(made, weights_sha256=hashlib.sha256(b"w").hexdigest()), b"w")
    table = status(store, cache)
    assert (table.rows[0].kind, table.rows[0].state) == ("preparation", "done")
    assert sum(table.counts.values()) == 2
