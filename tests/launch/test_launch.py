"""Packs, failures and interrupts, with an engine that trains nothing (made_up.py) and real processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from tests.launch.made_up import ENGINE, a_plan, a_record, a_run, executions
from vitkd_bench.launch import LaunchOptions, Outcome, Snapshot, launch
from vitkd_bench.records import Preparations, Store
from vitkd_bench.spec import BadInputError, Plan, WorldError

INLINE = LaunchOptions(executor="inline", engine=ENGINE)
TWO = LaunchOptions(executor="local", jobs=2, engine=ENGINE)
LAUNCH = """
import json, sys
from pathlib import Path
from vitkd_bench.launch import LaunchOptions, launch
from vitkd_bench.records import Preparations, Store
from vitkd_bench.spec import Plan
plan = Plan.parse(json.loads(Path(sys.argv[1]).read_text()))
options = LaunchOptions.parse(json.loads(sys.argv[4]))
outcome = launch(plan, Store(Path(sys.argv[2])), Preparations(Path(sys.argv[3])), options)
sys.exit(outcome.exit_code)
"""


class Place:
    """An output folder, a cache and a log of executions."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out, self.log = folder, folder / "out", folder / "executions.log"
        self.store, self.cache = Store(self.out), folder / "cache"

    def launch(
        self, plan: Plan, options: LaunchOptions = INLINE, watch: Callable[[Snapshot], None] | None = None
    ) -> Outcome:
        """Launch in this process."""
        return launch(plan, self.store, Preparations(self.cache), options, watch)

    def start(self, plan: Plan, options: LaunchOptions = TWO) -> "subprocess.Popen[bytes]":
        """Launch in a process of its own, in a process group of its own as a terminal would."""
        written = self.folder / "the_plan.json"
        written.write_text(json.dumps(plan.plain()))
        command = [sys.executable, "-c", LAUNCH, str(written), str(self.out), str(self.cache)]
        with (self.folder / "launches.log").open("a") as said:
            return subprocess.Popen(
                [*command, json.dumps(options.plain())], start_new_session=True, stdout=said, stderr=said
            )

    def ended(self) -> Counter[str]:
        """How often each run was carried to its end."""
        return Counter(executions(self.log))

    def workers(self) -> set[int]:
        """Processes that took a run."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return {int(line.split()[2]) for line in lines if line.startswith("begin")}


@pytest.fixture
def place(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A fresh place, whose workers find tests/launch/made_up.py."""
    place = Place(tmp_path)
    monkeypatch.setenv("MADE_UP_LOG", str(place.log))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]))
    yield place
    left = [pid for pid in place.workers() - {os.getpid()} if alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == [], "workers outlived their test"


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not yet reaped does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def until(true: Callable[[], object], seconds: float = 30) -> None:
    """Wait for something, and fail if it does not come."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def assert_all_done(place: Place, plan: Plan) -> None:
    """Every run has the record that it would have had undisturbed, and nothing half made lies about."""
    found = place.store.records()
    assert set(plan.runs) == set(found)
    assert [found[id_].result() for id_ in plan.runs] == [
        a_record(run).result() for run in plan.runs.values()
    ]
    assert place.store.finished() == set(plan.runs)
    assert place.store.damage == []
    assert [path for path in place.out.rglob("*.part") if "logs" not in path.parts] == []


# --- in one process --------------------------------------------------------------------------------------


def test_every_run_is_done_once_and_never_again(place: Place) -> None:
    """A launch does all runs; the next one finds nothing to do."""
    plan = a_plan([[a_run(0), a_run(1)], [a_run(2)]])
    assert Outcome(done=3, failed=0, interrupted=False) == place.launch(plan)
    assert_all_done(place, plan)
    assert Outcome(done=3, failed=0, interrupted=False) == place.launch(plan)
    assert set(place.ended().values()) == {1}


def test_preparations_come_first_in_the_order_of_their_needs(place: Place) -> None:
    """A preparation that reads another is made after it, and runs after both."""
    first = a_run(1000, steps=1)
    second = a_run(1001, needs=first.id, steps=40)
    run = a_run(0, needs=second.id)
    place.launch(a_plan([[run]], [second, first]).model_copy())
    assert [first.id, second.id, run.id] == executions(place.log)


def test_a_preparation_that_nothing_reads_any_more_is_not_made(place: Place) -> None:
    """A cache that was cleared after the runs were done costs nothing."""
    made = a_run(1000)
    plan = a_plan([[a_run(0, needs=made.id)]], [made])
    place.launch(plan)
    (place.cache / "preparations" / made.id).rename(place.folder / "elsewhere")
    assert place.launch(plan).exit_code == 0
    assert set(place.ended().values()) == {1}


def test_a_damaged_preparation_is_made_again(place: Place) -> None:
    """Weights that changed on disk are set aside, and made again for the run that still needs them."""
    made = a_run(1000)
    place.launch(a_plan([], [made]))
    Preparations(place.cache).weights(made.id).write_bytes(b"weighty")
    plan = a_plan([[a_run(0, needs=made.id)]], [made])
    assert place.launch(plan).exit_code == 0
    assert place.ended()[made.id] == 2
    assert list((place.cache / "damaged").iterdir()) != []


def test_a_failed_preparation_fails_its_runs_by_name(place: Place) -> None:
    """Runs and preparations that need a failed one say so; the others are done."""
    bad = a_run(1000, behave="fail")
    between = a_run(1001, needs=bad.id)
    stuck, free = a_run(0, needs=between.id), a_run(1)
    plan = a_plan([[stuck], [free]], [bad, between])
    outcome = place.launch(plan)
    assert (1, 1, {bad.id, between.id, stuck.id}) == (outcome.done, outcome.failed, set(outcome.failures))
    record = place.store.read(stuck.id)
    assert record
    assert record.error
    assert record.error.kind == "preparation"
    assert f"micro/{between.id[:4]} failed" in record.error.message
    assert f"micro/{bad.id[:4]} failed: NonFiniteLoss: loss is nan" in record.error.message


def test_a_pack_that_breaks_fails_alone(place: Place) -> None:
    """An exception out of a pack fails its unfinished runs in one line, keeps finished ones, and no more."""
    good, bad, other = a_run(0), a_run(1, behave="raise"), a_run(2)
    outcome = place.launch(a_plan([[good, bad], [other]]))
    assert {bad.id: "RuntimeError: the data are gone"} == outcome.failures
    assert (outcome.done, outcome.failed, outcome.exit_code) == (2, 1, 1)


def test_failed_runs_are_tried_again(place: Place) -> None:
    """A run that failed is done by the next launch, which replaces its record; finished ones stay."""
    plan = a_plan([[a_run(0), a_run(1, behave="fail_once")]])
    assert place.launch(plan).exit_code == 1
    assert place.launch(plan).exit_code == 0
    assert_all_done(place, plan)
    assert sorted(place.ended().values()) == [1, 2]


def test_a_missing_split_is_made_up_for(place: Place) -> None:
    """A record that lacks a split that the plan now asks for does not count as finished."""
    plan = a_plan([[a_run(0)]])
    place.launch(plan)
    wider = plan.model_copy(update={"evaluate": {"made_up": ("test", "made_up/rotate")}})
    assert place.launch(wider).failed == 1


def test_the_state_of_a_launch_is_told_while_it_runs(place: Place) -> None:
    """Snapshots count runs and preparations, name what runs, and end with everything over."""
    made = a_run(1000, steps=60)
    plan = a_plan([[a_run(0, needs=made.id, steps=80)], [a_run(1, behave="fail")]], [made])
    seen: list[Snapshot] = []
    place.launch(plan, watch=seen.append)
    last = seen[-1]
    assert (last.total, last.done, last.failed) == (2, 1, 1)
    assert (last.preparations, last.prepared, last.share, last.running) == (1, 1, 1.0, ())
    labels = {running.label for snapshot in seen for running in snapshot.running}
    assert f"preparation of micro/{made.id[:4]}" in labels
    assert any(label.startswith("t:standard:m") for label in labels)
    assert [snapshot.share for snapshot in seen] == sorted(snapshot.share for snapshot in seen)
    assert {"done", "failed"} == {finished.status for finished in last.finished}


def test_a_second_launch_says_who_holds_the_folder(place: Place) -> None:
    """Two launches on one folder: the second names the first and writes nothing."""
    with place.store.lock("launcher"):
        before = sorted(place.out.rglob("*"))
        with pytest.raises(WorldError, match=rf"process {os.getpid()} on .* since 20"):
            place.launch(a_plan([[a_run(0)]]))
        assert before == sorted(place.out.rglob("*"))


def test_an_unknown_engine_or_device_is_refused(place: Place) -> None:
    """What cannot be carried out is said before anything is trained."""
    with pytest.raises(BadInputError, match="engine 'nowhere'"):
        place.launch(a_plan([[a_run(0)]]), LaunchOptions(executor="inline", engine="nowhere"))
    with pytest.raises(BadInputError, match="cuda:99"):
        place.launch(a_plan([[a_run(0)]]), LaunchOptions(executor="inline", device="cuda:99", engine=ENGINE))


# --- several processes -----------------------------------------------------------------------------------


def test_two_workers_share_the_packs(place: Place) -> None:
    """Both workers work, each run is done once, and the records are those of one process alone."""
    made = a_run(1000)
    plan = a_plan([[a_run(seed, needs=made.id, steps=30)] for seed in range(8)], [made])
    assert Outcome(done=8, failed=0, interrupted=False) == place.launch(plan, TWO)
    assert len(place.workers()) == 2
    assert os.getpid() not in place.workers()
    assert set(place.ended().values()) == {1}
    assert_all_done(place, plan)


def test_a_pack_that_kills_its_worker_is_given_up(place: Place) -> None:
    """A pack whose worker dies three times fails with that reason; every other run is done."""
    deadly = a_run(0, behave="die", steps=1)
    plan = a_plan([[deadly], *([a_run(seed)] for seed in range(1, 6))])
    outcome = place.launch(plan, LaunchOptions(executor="local", jobs=1, engine=ENGINE))
    assert (outcome.done, outcome.failed) == (5, 1)
    assert outcome.failures[deadly.id].startswith("worker_died: its worker was killed 3 times")
    assert executions(place.log, "begin").count(deadly.id) == 3


def test_a_worker_that_cannot_start_ends_the_launch(place: Place) -> None:
    """Workers that die before they take a pack are not started for ever; the launch says what they said."""
    with pytest.raises(WorldError, match=r"before they take a pack: .*nowhere"):
        place.launch(a_plan([[a_run(0)]]), LaunchOptions(executor="local", jobs=1, engine="nowhere"))


def test_killed_workers_are_replaced(place: Place) -> None:
    """SIGKILL of workers at random moments costs their pack in hand and nothing else."""
    plan = a_plan([[a_run(seed, steps=60)] for seed in range(4)])
    started = place.start(plan)
    random, killed = Random(1), set[int]()
    while started.poll() is None and len(killed) < 2:
        fresh = [pid for pid in place.workers() - killed if alive(pid)]
        if fresh:
            time.sleep(random.uniform(0, 0.4))
            killed.add(fresh[0])
            kill(fresh[0])
        time.sleep(0.05)
    assert started.wait(60) == 0
    assert_all_done(place, plan)
    assert set(place.ended().values()) == {1}


def test_a_killed_launch_is_taken_up(place: Place) -> None:
    """SIGKILL of the launcher, twice: its workers end by themselves, the next launch goes on where it was."""
    plan = a_plan([[a_run(seed, steps=80)] for seed in range(5)])
    for done in (1, 3):
        started = place.start(plan)
        until(lambda: len(place.ended()) >= done)  # noqa: B023 - asked before done changes
        started.kill()
        started.wait()
    taken_up = place.start(plan)
    orphans = place.workers()
    assert taken_up.wait(60) == 0
    until(lambda: not any(map(alive, orphans)), 10)
    assert_all_done(place, plan)
    assert set(place.ended().values()) == {1}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_of_the_whole_group_ends_cleanly(place: Place, number: signal.Signals) -> None:
    """Ctrl-C reaches launcher and workers: all end, status 130; the next launch repeats nothing finished."""
    plan = a_plan([[a_run(seed, steps=60)] for seed in range(5)])
    started = place.start(plan)
    until(lambda: len(place.ended()) >= 1)
    os.killpg(started.pid, number)
    assert started.wait(20) == 130
    assert not any(map(alive, place.workers()))
    assert 1 <= len(place.ended()) < 5
    assert place.launch(plan).exit_code == 0
    assert_all_done(place, plan)
    assert set(place.ended().values()) == {1}


def test_a_second_interrupt_kills(place: Place) -> None:
    """A pack that does not listen is killed by the second Ctrl-C, with the whole launch."""
    plan = a_plan([[a_run(0, behave="deaf", steps=1)]])
    started = place.start(plan, LaunchOptions(executor="local", jobs=1, engine=ENGINE))
    until(place.workers)
    started.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert started.poll() is None
    started.send_signal(signal.SIGINT)
    assert started.wait(10) == 130
    until(lambda: not any(map(alive, place.workers())), 10)


def kill(pid: int) -> None:
    """SIGKILL, unless it is gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
