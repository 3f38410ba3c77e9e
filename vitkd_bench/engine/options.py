"""How packs are executed; nothing here is part of a run's identity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


def never() -> bool:
    """Never stop."""
    return False


@dataclass(frozen=True, slots=True)
class PackOptions:
    """Where data is looked for, on which device, with how many threads.

    `should_stop` is asked at every step; when it turns true the pack ends with `Interrupted`, leaving the
    checkpoints of the last epochs that were saved. `checkpoint_s` is the least time in seconds between two.
    `data_workers` are processes that make batches ahead; with none of them the loop makes them itself.
    """

    roots: tuple[Path, ...] = ()
    device: str = "cpu"
    threads: int = 1
    data_workers: int = 0
    should_stop: Callable[[], bool] = never
    checkpoint_s: float = 20.0


class Interrupted(BaseException):
    """The pack was asked to stop; its unfinished runs go on from their checkpoints next time."""
