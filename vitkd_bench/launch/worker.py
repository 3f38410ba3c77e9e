"""Work through the packs of a launch, in this process or as one of several."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vitkd_bench.launch.board import Board, Claim
from vitkd_bench.launch.folder import LaunchFolder, WorkerState
from vitkd_bench.launch.options import LaunchOptions
from vitkd_bench.launch.ownership import is_launcher
from vitkd_bench.records import Preparations, Store
from vitkd_bench.registry import load_extension

POLL_S = 0.2
WATCH_S = 0.5  # how often a worker looks whether its launcher lives


def work_through(
    board: Board,
    options: LaunchOptions,
    should_stop: Callable[[], bool],
    report: Callable[[str | None], None] | None = None,
) -> bool:
    """Take one pack after another until none is left or `should_stop` turns true.

    Args:
        board: what is left.
        options: the device and the threads of this process.
        should_stop: asked between packs here, and at every step by the engine.
        report: told the pack in hand, and None between two.

    Returns:
        Whether all packs are over; False when it was stopped.
    """
    pack_options = board.engine.PackOptions(
        roots=options.roots,
        device=options.device,
        threads=options.threads,
        data_workers=options.loaders(),
        should_stop=should_stop,
    )
    for path in board.plan.extensions:
        load_extension(Path(path))
    say = report or (lambda _: None)
    while not should_stop():
        with board.claim() as claim:
            if claim is not None:
                say(claim.pack.id)
                if not _carry_out(board, claim, pack_options):
                    return False
                say(None)
        if claim is None:
            if not board.left:
                return True
            time.sleep(POLL_S)
    return not board.left


def _carry_out(board: Board, claim: Claim, options: Any) -> bool:
    """Do one pack to its end; False if it was interrupted before."""
    engine = board.engine
    if claim.blocked:
        board.give_up(claim.pack, "preparation", claim.blocked)
        return True
    try:
        engine.run_pack(board.plan, claim.pack, board.store, board.preparations, options)
    except (KeyboardInterrupt, engine.Interrupted):
        return False
    except Exception as error:  # noqa: BLE001 - whatever broke this pack, the others go on
        board.give_up(claim.pack, type(error).__name__, " ".join(str(error).split()) or "no message")
        return True
    board.end(claim.pack)
    return True


def work(out: str, cache: str, launch: str, name: str, options: dict[str, Any]) -> str:
    """Be one worker process of a launch; all it is given are paths and plain settings.

    Args:
        out: output folder; the plan is read from it.
        cache: folder of the preparations.
        launch: folder of the launch.
        name: what launcher and log folder call this worker.
        options: `LaunchOptions` as plain data.

    Returns:
        `done` when nothing was left, `stopped` when it was told to stop or its launcher is gone.
    """
    folder, parent = LaunchFolder(Path(launch)), os.getppid()
    store = Store(Path(out))
    told = _terminated()

    def tell(pack: str | None, ended: Any = None) -> None:
        folder.tell(name, WorkerState(pid=os.getpid(), pack=pack, ended=ended))

    def orphaned() -> bool:
        return os.getppid() != parent or not is_launcher(store, folder.name)

    tell(None)
    should_stop = _now_and_then(lambda: bool(told) or folder.stopping or orphaned())
    settings = LaunchOptions.parse(options, "worker")
    board = Board(store.read_plan(), store, Preparations(Path(cache)), folder, settings.engine)
    done = work_through(board, settings, should_stop, tell)
    ended = "done" if done else "stopped"
    tell(None, ended)
    return ended


def _terminated() -> list[int]:
    """Take SIGTERM as a request to stop: submitit's own handler logs it and goes on."""
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    return told


def _now_and_then(look: Callable[[], bool]) -> Callable[[], bool]:
    """Ask at most every `WATCH_S`: the engine asks at every step. Once true, it stays true."""
    last, seen = 0.0, False

    def ask() -> bool:
        nonlocal last, seen
        if not seen and time.monotonic() - last >= WATCH_S:
            seen, last = look(), time.monotonic()
        return seen

    return ask
