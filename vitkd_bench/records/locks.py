"""Locks that the kernel releases when their holder dies."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import socket
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vitkd_bench.spec import WorldError

_PATIENCE = 0.05  # seconds; a `holder()` elsewhere holds the file for microseconds only


def now() -> str:
    """The time of day in UTC, ISO 8601 with seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def this_process() -> dict[str, Any]:
    """Who we are, as locks and heartbeats tell others: pid, host, command."""
    return {"pid": os.getpid(), "host": socket.gethostname(), "command": shlex.join(sys.argv)}


def is_alive(owner: dict[str, Any]) -> bool | None:
    """Whether the process that `owner` describes still runs; None if it is on another host."""
    if owner.get("host") != socket.gethostname():
        return None
    try:
        os.kill(int(owner["pid"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Lock:
    """One lock, held by at most one process, on a file that says who holds it.

    The file stays when the lock is released: removing it would let two processes lock two files of one name.
    """

    def __init__(self, path: Path, owner: dict[str, Any]) -> None:
        """Name the file, and what others read in it; nothing is locked yet."""
        self.path = path
        self.owner = owner
        self._handle: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._handle is not None

    def try_acquire(self) -> bool:
        """Take the lock if it is free; never waits longer than a twentieth of a second.

        Raises:
            WorldError: the file cannot be made, or this object holds the lock already.
        """
        if self.held:
            raise WorldError(f"{self.path}: this process holds it already")
        handle = self._open()
        until = time.monotonic() + _PATIENCE
        while not _take(handle, fcntl.LOCK_EX):
            if time.monotonic() > until:
                os.close(handle)
                return False
            time.sleep(_PATIENCE / 10)
        said = json.dumps({**self.owner, "since": now()}) + "\n"
        os.ftruncate(handle, 0)
        os.pwrite(handle, said.encode(), 0)
        self._handle = handle
        _HELD.add(self)
        return True

    def acquire(self, timeout: float | None = None, poll: float = 0.2) -> None:
        """Wait for the lock, at most `timeout` seconds (None: as long as it takes).

        Raises:
            WorldError: still held by somebody else when the time is over; says by whom.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while not self.try_acquire():
            if until is not None and time.monotonic() >= until:
                raise WorldError(self.refusal())
            time.sleep(poll)

    def release(self) -> None:
        """Let others have it; nothing happens if it is not held."""
        if self._handle is not None:
            os.ftruncate(self._handle, 0)
            os.close(self._handle)
        self._handle = None
        _HELD.discard(self)

    def holder(self) -> dict[str, Any] | None:
        """What the holder wrote (pid, host, command, since), `{}` if it is just writing; None if free."""
        if self.held:
            return _read_owner(self.path)
        try:
            handle = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            return None if _take(handle, fcntl.LOCK_SH) else _read_owner(self.path)
        finally:
            os.close(handle)

    def refusal(self) -> str:
        """Say in one sentence who holds it."""
        holder = self.holder()
        if not holder:
            return f"{self.path}: held by another process; try again"
        who = f"process {holder.get('pid')} on {holder.get('host')}"
        return f"{self.path}: held by {who} since {holder.get('since')} ({holder.get('command')})"

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            WorldError: somebody else holds it; says who.
        """
        if not self.try_acquire():
            raise WorldError(self.refusal())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release it."""
        self.release()

    def _open(self) -> int:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise WorldError(f"{self.path}: cannot be locked: {error.strerror or error}") from None


_HELD: set[Lock] = set()


def _forget_in_child() -> None:
    """A forked child shares the parent's open files: without this its life would prolong the lock."""
    for lock in list(_HELD):
        if lock._handle is not None:  # noqa: SLF001 - the same module
            os.close(lock._handle)  # noqa: SLF001
        lock._handle = None  # noqa: SLF001
    _HELD.clear()


os.register_at_fork(after_in_child=_forget_in_child)


def _take(handle: int, how: int) -> bool:
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_owner(path: Path) -> dict[str, Any]:
    try:
        owner: dict[str, Any] = json.loads(path.read_bytes() or b"{}")
    except (ValueError, FileNotFoundError):
        return {}  # between truncating and writing
    return owner
