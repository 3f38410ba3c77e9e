"""From a plan to finished records: the one door through which anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from vitkd_bench.launch.board import Board, finished_runs
from vitkd_bench.launch.folder import LaunchFolder
from vitkd_bench.launch.interrupts import Interrupts
from vitkd_bench.launch.options import LaunchOptions
from vitkd_bench.launch.ownership import launcher_of
from vitkd_bench.launch.pool import Pool
from vitkd_bench.launch.progress import Snapshot, Watching
from vitkd_bench.launch.worker import work_through
from vitkd_bench.records import Preparations, Store
from vitkd_bench.spec import Plan


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a launch came to.

    `done` counts the plan's runs that have a record of success, those of earlier launches included.
    `failures` maps what failed in this launch to the reason, preparations included; `failed` counts the runs
    among them. `damage` names what was found damaged and set aside in this launch: it never counted.
    """

    done: int
    failed: int
    interrupted: bool
    failures: dict[str, str] = field(default_factory=dict)
    damage: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """The exit status that belongs to it: 0, 1 or 130."""
        return 130 if self.interrupted else int(bool(self.failures))


def launch(
    plan: Plan,
    store: Store,
    preparations: Preparations,
    options: LaunchOptions,
    watch: Callable[[Snapshot], None] | None = None,
) -> Outcome:
    """Do all that a plan leaves to do: preparations first, then runs; finished ones are not repeated.

    Runs that failed in an earlier launch are tried again. SIGINT or SIGTERM ends the launch with what the
    last checkpoints hold, a second one at once; where the launching process is killed, its workers end by
    themselves within seconds.

    Args:
        plan: what is to be done; written to the output folder.
        store: the output folder.
        preparations: the cache of what runs need made first.
        options: executor, workers, device, data roots.
        watch: called a few times a second with the state of the launch, from a thread of its own.

    Raises:
        WorldError: another launch holds the folder (nothing is written then), or the disk refuses.
        BadInputError: a device that is not there.
    """
    folder = LaunchFolder.fresh(store.log_path("launch").parent)
    workers = options.workers(len(plan.packs))
    inline = options.executor == "inline"
    with launcher_of(store, folder.name):
        before = _set_aside(store, preparations)
        store.write_plan(plan)
        board = Board(plan, store, preparations, folder, options.engine)
        if not board.left:
            return _outcome(board, before, interrupted=False)
        folder.create()
        with Interrupts(insist=inline) as interrupts, Watching(board, watch):
            if inline:
                _inline(board, options, interrupts)
            else:
                Pool(board, options, workers).run(lambda: interrupts.asked, lambda: interrupts.insisted)
        if not board.left:  # every pack has ended, so nobody writes here any more
            store.sweep()
        return _outcome(board, before, interrupted=interrupts.asked and bool(board.left))


def _inline(board: Board, options: LaunchOptions, interrupts: Interrupts) -> None:
    try:
        work_through(board, options, lambda: interrupts.asked)
    except KeyboardInterrupt:
        interrupts.count = max(interrupts.count, 1)


def _set_aside(store: Store, preparations: Preparations) -> dict[Path, str]:
    """All that was ever set aside: workers find damage too, and what they found is told by files alone."""
    return {**store.damaged(), **preparations.damaged()}


def _outcome(board: Board, before: dict[Path, str], *, interrupted: bool) -> Outcome:
    failures = board.failures()
    done = len(finished_runs(board.plan, board.store) & set(board.plan.runs))
    now = _set_aside(board.store, board.preparations)
    damage = tuple(f"{why}; set aside as {path}" for path, why in now.items() if path not in before)
    return Outcome(done, len(set(failures) & set(board.plan.runs)), interrupted, failures, damage)
