"""Ctrl-C and SIGTERM while a launch runs: the first asks, the second insists."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

_ASKING = ("SIGINT", "SIGTERM", "SIGHUP")


class Interrupts:
    """Counts requests to stop. The handlers of before come back at the end.

    With `insist`, the second request raises KeyboardInterrupt wherever the process is: needed where a pack is
    trained in this very process. Outside the main thread Python has no handlers to set, and none are.
    """

    def __init__(self, *, insist: bool) -> None:
        self.insist = insist
        self.count = 0
        self._before: dict[int, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether somebody asked to stop."""
        return self.count > 0

    @property
    def insisted(self) -> bool:
        """Whether somebody asked twice."""
        return self.count > 1

    def __enter__(self) -> Self:
        """Set the handlers."""
        if threading.current_thread() is threading.main_thread():
            for name in _ASKING:
                number = getattr(signal, name)
                # under nohup, SIGHUP is ignored on purpose
                if name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN:
                    continue
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Set the handlers of before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.insist and self.insisted:
            raise KeyboardInterrupt
