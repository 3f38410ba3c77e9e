"""Controls beside the methods that they take something away from: does the method do better?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vitkd_bench.report.rows import Row, folded, undecided
from vitkd_bench.report.words import settings_text
from vitkd_bench.statistics import Delta, paired_delta, verdict

VERDICTS = {"transfers": "method better", "fails": "control better", "undecided": "undecided"}


@dataclass(frozen=True, slots=True)
class ControlRow:
    """A control's row, and by how much its method does better: paired by seed, in percentage points."""

    row: Row
    method: str
    advantage: Delta | None
    chosen: Mapping[str, Any] = field(default_factory=dict)
    """Settings that were chosen on val for the method itself, which may have others than its control."""

    @property
    def verdict(self) -> str | None:
        """Which of both does better, if the interval excludes 0; None where they share no seed."""
        return VERDICTS[verdict(self.advantage.interval)] if self.advantage else None

    @property
    def name(self) -> str:
        """The suite's name of it, with its own where that does not show."""
        control, label = self.row.method.control or "", self.row.key.method
        return label if control in label else f"{label} ({control})"

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is at stake, and what a reader has to know."""
        alone = () if self.advantage else ("the method itself has no result beside it",)
        # what its delta to the baseline does not decide is not what is asked here
        others = [remark for remark in self.row.remarks if remark != undecided(self.row.delta)]
        open_ = [undecided(self.advantage)] if self.verdict == "undecided" else []
        return (f"at stake: {self.row.method.claim}", *alone, *self._settings, *others, *open_)

    @property
    def _settings(self) -> tuple[str, ...]:
        if not self.advantage or self.chosen == self.row.chosen:
            return ()
        own = settings_text(self.chosen) or "its settings as the suite gives them"
        return (f"the method itself has other settings: {own}",)


def is_control(row: Row) -> bool:
    """Say whether a row is a control of a method and none itself."""
    return row.method.control_of is not None


def control_rows(rows: Iterable[Row]) -> list[ControlRow]:
    """Set every control beside the method of the same settings, by data set, recipe, method and control."""
    everything = list(rows)
    methods = {_place(row): row for row in everything if not is_control(row)}
    found = []
    for row in folded([row for row in everything if is_control(row)]):
        base = methods.get(_place(row))
        scores = base.scores if base else {}
        advantage = paired_delta(scores, row.scores, images=row.images)
        name = base.key.method if base else row.method.control_of or ""
        found.append(ControlRow(row, name, advantage, base.chosen if base else {}))
    return sorted(found, key=_order)


def _place(row: Row) -> tuple[object, ...]:
    """Name the cell of a row as a control and its method share it."""
    key, method = row.key, row.method
    settings = tuple(sorted((name, repr(value)) for name, value in method.settings.items()))
    return key.dataset, key.recipe, key.teacher, key.student, method.name, settings


def _order(found: ControlRow) -> tuple[str, ...]:
    key = found.row.key
    return key.dataset, key.recipe, found.method, key.method, key.student, key.teacher
