"""The folder of one launch, OUT/logs/<launch>/: what launcher and workers tell each other."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar

from vitkd_bench.records.files import write_atomically
from vitkd_bench.spec import Frozen, WorldError

Content = TypeVar("Content", bound=Frozen)


class Ended(Frozen):
    """How a pack ended in this launch; `failed` maps run ids to what was wrong."""

    failed: dict[str, str] = {}


class WorkerState(Frozen):
    """What a worker says of itself: its process, the pack in hand, and how it ended.

    `ended` is None while it works, `done` when nothing was left, `stopped` when it was told to stop.
    """

    pid: int
    pack: str | None = None
    ended: Literal["done", "stopped"] | None = None


class LaunchFolder:
    """Owns every file name of one launch. Each launch has a folder of its own, so nothing in it is stale."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def fresh(cls, logs: Path) -> LaunchFolder:
        """Name a new folder under `logs` after the time and this process; `create` makes it."""
        return cls(logs / f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{os.getpid()}")

    def create(self) -> None:
        """Make the folder.

        Raises:
            WorldError: it cannot be made, or is there already.
        """
        try:
            for path in (self.path / "ended", self.path / "workers"):
                path.mkdir(parents=True)
        except OSError as error:
            raise WorldError(f"{self.path}: no folder for logs: {error.strerror or error}") from None

    @property
    def name(self) -> str:
        """The name of the launch."""
        return self.path.name

    def end(self, pack: str, ended: Ended) -> None:
        """Note that a pack is over in this launch."""
        _write(self.path / "ended" / f"{pack}.json", ended)

    def ended(self, pack: str) -> Ended | None:
        """Say how a pack ended, or None while it has not."""
        return _read(self.path / "ended" / f"{pack}.json", Ended)

    def tell(self, worker: str, state: WorkerState) -> None:
        """Note what a worker is doing."""
        _write(self.path / "workers" / f"{worker}.json", state)

    def state(self, worker: str) -> WorkerState | None:
        """Read what a worker said last, or None if it never came so far."""
        return _read(self.path / "workers" / f"{worker}.json", WorkerState)

    def log_folder(self, worker: str) -> Path:
        """Give the folder of a worker's standard output and error."""
        return self.path / worker

    def ask_to_stop(self) -> None:
        """Tell all workers of this launch to stop."""
        (self.path / "stop").touch()

    @property
    def stopping(self) -> bool:
        """Whether the workers of this launch were told to stop."""
        return (self.path / "stop").exists()


def _write(path: Path, content: Frozen) -> None:
    write_atomically(path, json.dumps(content.plain()).encode())


def _read(path: Path, kind: type[Content]) -> Content | None:
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
