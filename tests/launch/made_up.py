"""A plan of made-up runs, and a small engine that trains nothing but leaves real records.

Workers are processes of their own: they import this file by its name, from PYTHONPATH. What a run does is
said by the settings of its method, so that a plan on disk tells it all.
"""

import hashlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitkd_bench.records import Preparations, Store
from vitkd_bench.spec import (
    HALF_PIXELS,
    SIZES,
    Architecture,
    Cell,
    CellNames,
    ClassInfo,
    Failure,
    MethodUse,
    Pack,
    Plan,
    Recipe,
    Record,
    ResolvedDataset,
    Run,
    Teacher,
    TeacherUse,
)

STUDENT = Architecture(channels=1, image_size=8, patch=4, size=SIZES["micro_small"])
DATA = ResolvedDataset(
    name="made_up",
    version=1,
    channels=1,
    image_size=8,
    pixels=HALF_PIXELS,
    classes=(ClassInfo(name="a"), ClassInfo(name="b")),
    label_space="made_up",
)
RECIPE = Recipe(name="made_up", epochs=1, batch_size=1, lr=0.1)
ENGINE = "tests.launch.made_up"
WEIGHTS = b"weights"


def a_run(seed: int, behave: str = "work", steps: int = 4, needs: str | None = None) -> Run:
    """A run that takes `steps` hundredths of a second, or misbehaves."""
    teacher = None
    if needs:
        teacher = TeacherUse(name="micro/deit", pin=f"run:{needs}", key=needs, image_size=8, version=1)
    method = MethodUse(name="none", version=1, settings={"behave": behave, "steps": steps})
    return Run(student=STUDENT, method=method, teacher=teacher, dataset=DATA, recipe=RECIPE, seed=seed)


def a_plan(packs: list[list[Run]], preparations: list[Run] = []) -> Plan:  # noqa: B006 - never changed
    """A plan with these packs of runs, and one pack for each preparation."""
    runs = {run.id: run for pack in packs for run in pack}
    made = {run.id: run for run in preparations}
    return Plan(
        suite="made_up",
        resolved={},
        cells=tuple(
            Cell(
                teacher="t",
                student="standard",
                method=f"m{run.id[:4]}",
                dataset="made_up",
                runs={str(run.seed): id_},
            )
            for id_, run in runs.items()
        ),
        runs=runs,
        preparations=made,
        prepares={id_: f"micro/{id_[:4]}" for id_ in made},
        packs=(*(_pack([run], preparation=True) for run in preparations), *(_pack(pack) for pack in packs)),
        teachers={},
        methods={},
        evaluate={"made_up": ("test",)},
    )


def _pack(runs: list[Run], *, preparation: bool = False) -> Pack:
    needs = {run.teacher.preparation for run in runs if run.teacher and run.teacher.preparation}
    return Pack(
        id=f"pack-{runs[0].id}",
        runs=tuple(run.id for run in runs),
        needs=tuple(sorted(needs)),
        preparation=preparation,
    )


def note(line: str) -> None:
    """Append a line to the log of executions, whole: several processes write it."""
    handle = os.open(os.environ["MADE_UP_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{line}\n".encode())
    os.close(handle)


def executions(log: Path, what: str = "end") -> list[str]:
    """Run ids in the order in which they began or ended."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [line.split()[1] for line in lines if line.split()[0] == what]


def a_record(run: Run, failure: Failure | None = None) -> Record:
    """A record whose numbers depend on the run's id alone."""
    top1 = int(run.id[:4], 16) / 0xFFFF
    split = "val" if run.seed >= 1000 else "test"
    return Record(
        run_id=run.id,
        cell_key=run.cell_key,
        status="failed" if failure else "done",
        cell=CellNames(student="standard", method="none", dataset="made_up", recipe="made_up"),
        versions=run.versions,
        seed=run.seed,
        protocol=run.protocol,
        label_space="made_up",
        config=run.plain(),
        metrics={} if failure else {split: {"n": 2, "top1": top1}},
        weights_sha256=None if failure else hashlib.sha256(WEIGHTS).hexdigest(),
        created="2026-01-01T00:00:00+00:00",
        error=failure,
    )


def failed_record(run: Run, teacher: Teacher | None, error: Failure) -> Record:
    """The record of a run that never began; its teacher is made up too."""
    assert teacher is None or teacher.name.startswith("micro/")
    return a_record(run, error)


@dataclass(frozen=True)
class PackOptions:
    """What the engine's has, and no torch."""

    roots: tuple[Path, ...]
    device: str
    threads: int
    data_workers: int
    should_stop: Callable[[], bool]


class Interrupted(BaseException):
    """The pack was asked to stop."""


def run_pack(plan: Plan, pack: Pack, store: Store, preparations: Preparations, options: PackOptions) -> None:
    """Do the unfinished runs of a pack one after another, as slowly as they ask for."""
    for run_id in pack.runs:
        run = plan.all_runs()[run_id]
        record = store.read(run_id)
        if (record and record.status == "done") or (pack.preparation and preparations.ready(run_id)):
            continue
        note(f"begin {run_id} {os.getpid()}")
        failure = _train(run, store, options)
        if pack.preparation and failure is None:
            preparations.write(a_record(run), WEIGHTS)
        else:
            store.write(a_record(run, failure), None if failure else {"test/labels": np.arange(2)})
        note(f"end {run_id} {os.getpid()}")
        store.clear_live(run_id)


def _train(run: Run, store: Store, options: PackOptions) -> Failure | None:
    behave, steps = run.method.settings["behave"], run.method.settings["steps"]
    for step in range(steps):
        if options.should_stop():
            raise Interrupted
        time.sleep(0.01)
        store.beat(run.id, {"epoch": 1, "epochs": 1, "progress": step / steps, "accuracy": 0.5})
    if behave == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if behave == "deaf":
        time.sleep(60)
    if behave == "raise":
        raise RuntimeError("the data\nare gone")
    if behave == "fail" or (
        behave == "fail_once" and executions(Path(os.environ["MADE_UP_LOG"])).count(run.id) == 0
    ):
        return Failure(kind="NonFiniteLoss", message="loss is nan", step=7)
    return None
