"""SIGKILL at random moments, and two processes that want one lock."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vitkd_bench.records import Store
from vitkd_bench.spec import Record, Run, WorldError

# Writes the same run over and over: its top1 says which of the predictions belongs to it.
WRITER = """
import sys
from pathlib import Path
import numpy as np
from vitkd_bench.records import Store
from vitkd_bench.spec import Record
store, template = Store(Path(sys.argv[1])), Path(sys.argv[2]).read_text()
record = Record.model_validate_json(template)
print("ready", flush=True)
for i in range(1, 1_000_000):
    changed = record.model_copy(update={"metrics": {"test": {"n": float(i)}}, "notes": ("x" * 50_000,)})
    store.write(changed, {"test/label": np.full(5_000, i)})
    store.write_sealed(store.checkpoint_path(record.run_id), bytes([i % 256]) * 100_000)
    store.beat(record.run_id, {"i": i})
"""
HOLDER = """
import sys, time
from pathlib import Path
from vitkd_bench.records import Store
lock = Store(Path(sys.argv[1])).lock("launcher")
print(lock.try_acquire(), flush=True)
time.sleep(60)
"""
FORKER = """
import os, sys, time
from pathlib import Path
from vitkd_bench.records import Store
lock = Store(Path(sys.argv[1])).lock("launcher")
assert lock.try_acquire()
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
time.sleep(60)
"""
RACER = """
import sys
from pathlib import Path
from vitkd_bench.records import Store
store = Store(Path(sys.argv[1]))
counter = store.folder / "counter"
for _ in range(100):
    lock = store.lock("counter")
    lock.acquire(timeout=30, poll=0.0005)
    counter.write_text(str(int(counter.read_text()) + 1))
    lock.release()
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A fresh Python process."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )


def line(process: subprocess.Popen[str]) -> str:
    """The next line that a process prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL, and wait until it is gone."""
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_killed_writers_leave_whole_files(
    tmp_path: Path, make_run: Callable[..., Run], make_record: Callable[..., Record]
) -> None:
    """After each of several kills every file under its final name is whole, and none contradicts another."""
    record = make_record(make_run())
    template = tmp_path / "template.json"
    template.write_text(record.model_dump_json(by_alias=True))
    store, seen = Store(tmp_path / "out"), 0
    for moment in range(6):
        writer = start(WRITER, store.folder, template)
        assert line(writer) == "ready"
        while moment == 1 and not store.record_path(record.run_id).exists():
            time.sleep(0.01)  # at least once a whole record is there to be overwritten
        time.sleep(random.Random(moment).uniform(0.02, 0.25))
        kill(writer)
        read, predictions = store.read(record.run_id), store.predictions(record.run_id)
        assert store.damage == []
        assert (read is None) <= (predictions is None)
        if read is not None and predictions is not None:
            seen += 1
            # predictions go first: they may be one round ahead of the record, and never behind it
            assert predictions["test/label"][0] - read.metrics["test"]["n"] in {0, 1}
            assert np.unique(predictions["test/label"]).size == 1
        if store.checkpoint_path(record.run_id).exists():
            assert len(set(store.read_sealed(store.checkpoint_path(record.run_id)))) == 1
    assert seen > 0
    store.sweep()
    assert {path.suffix for path in store.folder.rglob("*") if path.is_file()} == {".json", ".npz", ".pt"}
    assert store.finished() == {record.run_id}


def test_the_second_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    """Only one process gets the lock; the other learns pid, host, command and since when."""
    holder = start(HOLDER, tmp_path)
    try:
        assert line(holder) == "True"
        lock = Store(tmp_path).lock("launcher")
        assert not lock.try_acquire()
        told = lock.holder()
        assert told is not None
        assert told["pid"] == holder.pid
        assert set(told) == {"pid", "host", "command", "since"}
        with pytest.raises(WorldError, match=f"held by process {holder.pid} on .* since 20"), lock:
            pytest.fail("both held it")
        with pytest.raises(WorldError, match="held by process"):
            lock.acquire(timeout=0.1, poll=0.02)
    finally:
        kill(holder)
    assert lock.holder() is None
    with lock:
        assert lock.held
        assert lock.holder() is not None


def test_a_child_does_not_prolong_its_parents_lock(tmp_path: Path) -> None:
    """A forked child outlives its killed parent without keeping the lock."""
    parent = start(FORKER, tmp_path)
    child = int(line(parent))
    try:
        kill(parent)
        assert Store(tmp_path).lock("launcher").try_acquire()
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_lock_excludes(tmp_path: Path) -> None:
    """Three processes that count under the lock lose no step."""
    (tmp_path / "counter").write_text("0")
    racers = [start(RACER, tmp_path) for _ in range(3)]
    watched = Store(tmp_path).lock("counter")
    while any(racer.poll() is None for racer in racers):
        watched.holder()  # looking on must not make anybody fail
        time.sleep(0.001)
    assert [racer.wait() for racer in racers] == [0, 0, 0]
    for racer in racers:
        assert racer.stdout is not None
        racer.stdout.close()
    assert (tmp_path / "counter").read_text() == "300"


def test_two_locks_of_one_process_compete(tmp_path: Path) -> None:
    """A lock is of an object, not of a process: two threads of one process exclude each other."""
    store = Store(tmp_path)
    with store.lock("a") as first:
        assert not store.lock("a").try_acquire()
        assert store.lock("b").try_acquire()
        with pytest.raises(WorldError, match="holds it already"):
            first.try_acquire()
    assert store.lock("a").try_acquire()
