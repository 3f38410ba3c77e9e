"""Trying again what may work in a moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from vitkd_bench.spec import WorldError

Answer = TypeVar("Answer")

TRIES = 5  # in a row that brought nothing
PAUSE = 0.5  # seconds before the second try, twice as long before each one after it
LONGEST = 60.0  # seconds, whatever a server asks for
BUSY = {408, 425, 429, 500, 502, 503, 504}
"""HTTP statuses after which the same request may succeed."""


class TransientError(Exception):
    """A failure that may pass; `wait` is how many seconds the other side asks for."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


def patiently(attempt: Callable[[], Answer], progress: Callable[[], int], where: str) -> Answer:
    """Call `attempt` until it does not raise TransientError, with growing pauses.

    Args:
        attempt: what is tried.
        progress: how much has been reached; tries are counted anew when it rises above all before.
        where: what an error opens with.

    Raises:
        WorldError: five tries in a row failed and brought nothing.
    """
    failures, reached = 0, progress()
    while True:
        try:
            return attempt()
        except TransientError as error:
            failures = 1 if progress() > reached else failures + 1
            reached = max(reached, progress())
            if failures >= TRIES:
                raise WorldError(
                    f"{where}: {error}, {TRIES} times in a row; try again later, what has arrived is kept"
                ) from None
            time.sleep(min(LONGEST, PAUSE * 2 ** (failures - 1) if error.wait is None else error.wait))


def asked_pause(value: str | None) -> float | None:
    """Read a `Retry-After` header in seconds; one that gives a date is left aside."""
    return float(value) if value and value.isdigit() else None
