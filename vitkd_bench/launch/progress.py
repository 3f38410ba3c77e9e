"""What a launch looks like while it runs: read from the files that runs leave."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from vitkd_bench.launch.board import Board, finished_runs
from vitkd_bench.launch.order import run_cost
from vitkd_bench.spec import Record

LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Running:
    """A run in training. `share` of it is over; `accuracy` is on val, None before the end of the first epoch.

    Both are fractions in [0, 1].
    """

    run_id: str
    label: str
    epoch: int
    epochs: int
    share: float
    accuracy: float | None = None
    images_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """A run or preparation that ended in this launch. `accuracy` is on test (val for a preparation)."""

    run_id: str
    label: str
    status: str
    accuracy: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a launch. Preparations are counted apart from runs.

    `share` is the part of the work that is over, by estimated cost, in [0, 1]; `left_s` the time left in
    seconds, None while nothing can be said. `finished` lists, in the order of their ends, what ended in this
    launch.
    """

    total: int
    done: int
    failed: int
    preparations: int
    prepared: int
    share: float
    elapsed_s: float
    left_s: float | None
    running: tuple[Running, ...] = ()
    finished: tuple[Finished, ...] = ()


class Progress:
    """Follows one launch. Nothing here can end it: a file that is just being written is looked at again."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.labels = board.labels
        self.costs = {id_: run_cost(run) for id_, run in board.plan.all_runs().items()}
        self.began, self.began_at = time.monotonic(), time.time()
        self.before = {run for pack in board.packs if board.over(pack) for run in pack.runs}
        self.before |= finished_runs(board.plan, board.store)
        self.finished: dict[str, Finished] = {}

    def look(self) -> Snapshot:
        """Say how things stand."""
        self._settle()
        running = self._running()
        plan, over = self.board.plan, self.before | set(self.finished)
        failed = {id_ for id_, end in self.finished.items() if end.status == "failed"}
        share, left_s = self._estimate(running)
        return Snapshot(
            total=len(plan.runs),
            done=len((over - failed) & set(plan.runs)),
            failed=len(failed & set(plan.runs)),
            preparations=len(plan.preparations),
            prepared=len((over - failed) & set(plan.preparations)),
            share=share,
            elapsed_s=time.monotonic() - self.began,
            left_s=left_s,
            running=running,
            finished=tuple(self.finished.values()),
        )

    def _settle(self) -> None:
        """Take in what ended since the last look; a failure counts when its pack is over."""
        for pack in self.board.packs:
            open_runs = [run for run in pack.runs if run not in self.before and run not in self.finished]
            if not open_runs:
                continue
            ended = self.board.folder.ended(pack.id)
            for run in open_runs:
                if ended and run in ended.failed:
                    self.finished[run] = Finished(run, self.labels[run], "failed", reason=ended.failed[run])
                elif ended or self._is_done(run):
                    self.finished[run] = Finished(run, self.labels[run], "done", _accuracy(self._record(run)))

    def _is_done(self, run: str) -> bool:
        # looking at a preparation means hashing its weights: wait until somebody says that it is over
        return run in self.board.plan.runs and self.board.is_done(run)

    def _record(self, run: str) -> Record | None:
        if run in self.board.plan.preparations:
            return self.board.preparations.ready(run)
        return self.board.store.read(run)

    def _running(self) -> tuple[Running, ...]:
        found = []
        for run, beat in self.board.store.beats().items():
            here = run in self.labels and run not in self.finished and run not in self.before
            if here and beat["time"] >= self.began_at:
                found.append(_running(run, self.labels[run], beat["progress"]))
        return tuple(sorted(found, key=lambda running: running.label))

    def _estimate(self, running: tuple[Running, ...]) -> tuple[float, float | None]:
        here = {run: cost for run, cost in self.costs.items() if run not in self.before}
        total = sum(here.values())
        worked = sum(here.get(run, 0.0) for run in self.finished)
        worked += sum(here.get(r.run_id, 0.0) * r.share for r in running)
        if not total:
            return 1.0, 0.0
        share = worked / total
        elapsed = time.monotonic() - self.began
        return share, elapsed * (1 - share) / share if share > 0.02 else None


class Watching:
    """Calls `watch` every half second, from a thread, while a launch runs; and once more at its end."""

    def __init__(self, board: Board, watch: Callable[[Snapshot], None] | None) -> None:
        self.watch = watch
        self.progress = Progress(board) if watch else None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="watch", daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        if self.watch:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, after a last look."""
        self._over.set()
        if self.watch:
            self._thread.join()
            self._look()

    def _follow(self) -> None:
        while not self._over.wait(LOOK_S):
            self._look()

    def _look(self) -> None:
        if self.watch and self.progress:
            self.watch(self.progress.look())


def _running(run: str, label: str, said: Mapping[str, Any]) -> Running:
    return Running(
        run_id=run,
        label=label,
        epoch=said["epoch"],
        epochs=said["epochs"],
        share=min(1.0, said.get("progress", 0.0)),
        accuracy=said.get("accuracy"),
        images_per_s=said.get("images_per_s"),
    )


def _accuracy(record: Record | None) -> float | None:
    metrics = record.metrics if record else {}
    val = metrics.get("val", {})
    return metrics.get("test", {}).get("top1", val.get("top1", val.get("knn_top1")))
