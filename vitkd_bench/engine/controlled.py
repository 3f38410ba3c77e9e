"""The control that a run is under, and the part of a pack's reading of the teacher that it acts on."""

from __future__ import annotations

from vitkd_bench.contracts import CellFacts, Control, Features
from vitkd_bench.contracts.taps import LOGITS, POOLED, blocks_of
from vitkd_bench.registry import CONTROLS
from vitkd_bench.spec import Run, Settings


def make_control(run: Run, cell: CellFacts) -> Control:
    """Make the control of a run; of a run without one, a control that changes nothing."""
    use = run.method.control
    if use is None:
        return Control(Settings(), cell, run.seed)
    kind = CONTROLS.get(use.name).control
    return kind(kind.Config.parse(use.settings, f"run {run.id}"), cell, run.seed)


def picked(features: Features, taps: frozenset[str]) -> Features:
    """Keep what `taps` name: what other runs of the pack read is no business of this one."""
    return Features(
        logits=features.logits if LOGITS in taps else None,
        pooled=features.pooled if POOLED in taps else None,
        attention={i: features.attention[i] for i in blocks_of(taps, "attention")},
        tokens={i: features.tokens[i] for i in blocks_of(taps, "tokens")},
    )
