"""A bar on a terminal, plain lines elsewhere: how a launch goes, on stderr."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, TextColumn

from vitkd_bench.cli.console import duration, percent, stderr
from vitkd_bench.launch import Finished, Running, Snapshot


class ProgressBar:
    """Shows the snapshots of a launch; without a terminal, at most one line for each finished run."""

    def __init__(self) -> None:
        self.console = stderr()
        self._said = 0
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[now]}", markup=False),
            TextColumn("left {task.fields[left]}", markup=False),
            console=self.console,
            transient=True,
        )
        self._task = self._bar.add_task("starting", total=1.0, now="", left="–")

    def __enter__(self) -> Self:
        """Begin to show."""
        if self.console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away; what was printed stays."""
        if self.console.is_terminal:
            self._bar.stop()

    def __call__(self, snapshot: Snapshot) -> None:
        """Show how things stand."""
        for finished in snapshot.finished[self._said :]:
            self._said += 1
            if finished.status == "failed" or not self.console.is_terminal:
                self.console.print(_line(finished, snapshot), markup=False)
        self._bar.update(
            self._task,
            description=_description(snapshot),
            completed=snapshot.share,
            now=_now(snapshot.running),
            left=duration(snapshot.left_s),
        )


def _description(snapshot: Snapshot) -> str:
    failed = f", {snapshot.failed} failed" if snapshot.failed else ""
    if snapshot.prepared < snapshot.preparations and not snapshot.done:
        runs = f", {snapshot.total} runs" if snapshot.total else ""
        return f"{snapshot.prepared}/{snapshot.preparations} preparations{runs}"
    return f"{snapshot.done}/{snapshot.total} runs{failed}"


def _now(running: tuple[Running, ...]) -> str:
    measured = [run for run in running if run.accuracy is not None] or list(running)
    if not measured:
        return ""
    run = measured[0]
    accuracy = f" val {percent(run.accuracy)}" if run.accuracy is not None else ""
    return f"{run.label} {run.epoch}/{run.epochs}{accuracy}"


def _line(finished: Finished, snapshot: Snapshot) -> str:
    count = f"{snapshot.done + snapshot.failed}/{snapshot.total}"
    if not snapshot.total:  # a launch that only makes teachers
        count = f"{snapshot.prepared}/{snapshot.preparations}"
    if finished.status == "failed":
        return f"{count}  {finished.label}: failed: {finished.reason}"
    return f"{count}  {finished.label}: {percent(finished.accuracy)}"
