"""The local executor: a bounded pool of worker processes, each one a submitit job that takes many packs.

submitit's own local executor has no queue, names jobs by process id, and trusts a pickle that an earlier
process of the same id may have left. So: a pool of our own, a fresh folder for every worker, and no result is
ever read from a job; records are the truth.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitkd_bench.launch.board import Board
from vitkd_bench.launch.options import LaunchOptions
from vitkd_bench.launch.worker import work
from vitkd_bench.spec import WorldError

POLL_S = 0.2
MOST_DEATHS = 3
GRACE_S = 5.0  # for a worker whose controller died before it
NO_LIMIT_MIN = 60 * 24 * 365  # submitit's local default would end a job after two minutes
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(slots=True)
class _Member:
    name: str
    slot: int
    job: Any
    gone_since: float | None = None


class Pool:
    """Keeps so many workers alive until every pack is over."""

    def __init__(self, board: Board, options: LaunchOptions, size: int) -> None:
        self.board, self.options, self.size = board, options, size
        self.members: list[_Member] = []
        self.deaths: Counter[str] = Counter()
        self._stillborn = 0
        self._started = 0
        self._gpus = options.gpus()

    def run(self, asked: Callable[[], bool], insisted: Callable[[], bool]) -> None:
        """Work until all packs are over, or until the workers have ended because somebody asked to stop.

        Raises:
            WorldError: workers die before they take a pack; says where their log is.
        """
        try:
            while self._go_on(asked()) and not insisted():
                if asked() and not self.board.folder.stopping:
                    self.board.folder.ask_to_stop()
                time.sleep(POLL_S)
        finally:
            self._kill_all()

    def _go_on(self, stopping: bool) -> bool:  # noqa: FBT001 - said by its one caller, in the call
        for member in list(self.members):
            self._look_after(member)
        left = self.board.left
        if left and not stopping:
            taken = {member.slot for member in self.members}
            for slot in sorted(set(range(min(self.size, len(left)))) - taken):
                self._start(slot)
        return bool(self.members)

    def _start(self, slot: int) -> None:
        name = f"worker-{slot}.{self._started}"
        self._started += 1
        board = self.board
        device = "cuda" if self._gpus else self.options.device  # submitit shows a worker its own GPU only
        settings = self.options.model_copy(update={"device": device}).plain()
        executor = _executor(
            board.folder.log_folder(name), self._gpus[slot % len(self._gpus) :] if self._gpus else ()
        )
        paths = (str(board.store.folder.resolve()), str(board.preparations.folder.parent.resolve()))
        with _worker_environment(self.options.threads):
            job = executor.submit(work, *paths, str(board.folder.path.resolve()), name, settings)
        self.members.append(_Member(name, slot, job))

    def _look_after(self, member: _Member) -> None:
        """Notice the end of a worker, and what it held when it died."""
        if not member.job.done():
            return
        state = self.board.folder.state(member.name)
        if state and state.ended is None and _lives(state.pid):
            # its controller was killed, not the worker: it will notice, and end
            member.gone_since = member.gone_since or time.monotonic()
            if time.monotonic() - member.gone_since < GRACE_S:
                return
            _kill(state.pid)
        self.members.remove(member)
        if state is None or (state.ended is None and state.pack is None):
            self._count_stillborn(member)
        elif state.pack is not None and member.gone_since is None:
            self._count_death(state.pack)

    def _count_death(self, pack_id: str) -> None:
        self.deaths[pack_id] += 1
        pack = next(pack for pack in self.board.packs if pack.id == pack_id)
        if self.deaths[pack_id] >= MOST_DEATHS and not self.board.over(pack):
            self.board.give_up(
                pack,
                "worker_died",
                f"its worker was killed {MOST_DEATHS} times (out of memory?); see {self._logs()}",
            )

    def _count_stillborn(self, member: _Member) -> None:
        self._stillborn += 1
        if self._stillborn >= MOST_DEATHS:
            said = _last_line(self.board.folder.log_folder(member.name))
            raise WorldError(f"workers end before they take a pack: {said}; see {self._logs()}")

    def _logs(self) -> str:
        return f"logs/{self.board.folder.name}"

    def _kill_all(self) -> None:
        """End what is left by force: nothing, unless somebody insisted or the launcher itself failed."""
        for member in self.members:
            state = self.board.folder.state(member.name)
            _kill(int(member.job.job_id))
            if state and state.ended is None:
                _kill(state.pid)
        self.members.clear()


def _executor(folder: Path, gpus: tuple[int, ...]) -> Any:
    import submitit

    executor = submitit.LocalExecutor(folder)
    executor.update_parameters(
        timeout_min=NO_LIMIT_MIN,
        signal_delay_s=0,
        gpus_per_node=1 if gpus else 0,
        **({"visible_gpus": gpus} if gpus else {}),
    )
    return executor


@contextmanager
def _worker_environment(threads: int) -> Iterator[None]:
    """Start processes with their number of threads, and deaf to a terminal's Ctrl-C.

    That signal reaches every process of the terminal's group: submitit's controller would then kill its task
    after one second. Blocked signals are inherited; ours are delivered when the block ends.
    """
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _last_line(folder: Path) -> str:
    for path in sorted(folder.glob("*.err")):
        lines = path.read_text(errors="replace").strip().splitlines()
        if lines:
            return lines[-1].strip()
    return "they said nothing"
