"""The leaderboard's rows: one a cell, every number with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vitkd_bench.report.class_groups import ClassGroups, class_groups
from vitkd_bench.report.contamination import marked, seen_pictures
from vitkd_bench.report.fidelity import cell_fidelity
from vitkd_bench.report.gather import CellKey, Gathered, GatheredCell, MixedError
from vitkd_bench.report.gradients import gradient_ratio, told
from vitkd_bench.report.searches import chosen_settings, trials_spent
from vitkd_bench.report.shifts import TEST, ShiftScore, shift_scores
from vitkd_bench.report.words import NONE, settings_text
from vitkd_bench.spec import MethodFacts, TeacherFacts
from vitkd_bench.spec.seeds import seeded
from vitkd_bench.statistics import (
    Delta,
    Interval,
    Verdict,
    paired_bootstrap,
    paired_delta,
    smallest_detectable,
    t_interval,
    verdict,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One cell over its seeds.

    `top1` is a fraction with its t interval; `delta` is to `none` with the same student, data set, recipe
    and seed, in percentage points; `resampled` the same by a bootstrap over images and seeds. `macro`, the
    mean over classes, is a mean over seeds, a fraction, as is what `fidelity` has of the teacher on test
    (`agreement`, and `kl` in nats). `shifted` is by shift split, `groups` are those of a long tail. `seen`
    names collections of this data set's pictures that the teacher has seen in its own training. `same_as`
    names a student whose runs are the very same. In folded rows `also` names the students that this row
    stands for as well, `shared_by` the teachers of a baseline. `scores` are the fractions that `top1` is made
    of, by seed. `chosen` are the settings that were chosen on val, at the cost of so many `trials`;
    `gradient_ratio` is that of the first steps, mean over seeds.
    """

    key: CellKey
    teacher: TeacherFacts
    method: MethodFacts
    is_baseline: bool
    same_as: str | None
    run_ids: dict[int, str]
    done: tuple[int, ...]
    failed: tuple[int, ...]
    missing: tuple[int, ...]
    stale: tuple[int, ...]
    images: int | None
    top1: Interval | None
    delta: Delta | None
    resampled: Interval | None
    macro: float | None
    shifted: dict[str, ShiftScore]
    wall_s: float | None
    hardware: tuple[str, ...]
    seen: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    shared_by: tuple[str, ...] = ()
    scores: dict[int, float] = field(default_factory=dict)
    chosen: dict[str, Any] = field(default_factory=dict)
    trials: int = 0
    gradient_ratio: float | None = None
    groups: ClassGroups | None = None
    fidelity: dict[str, float] = field(default_factory=dict)

    @property
    def shifts(self) -> dict[str, float]:
        """Accuracy on each shift split by the rule that it is scored by, mean over seeds, a fraction."""
        return {split: score.top1.mean for split, score in self.shifted.items()}

    @property
    def teacher_name(self) -> str:
        """The suite's name of the teacher, marked if it has seen these pictures; none for a baseline."""
        return NONE if self.is_baseline else marked(self.key.teacher, self.seen)

    @property
    def verdict(self) -> Verdict | None:
        """What the interval of the delta shows; None where there is no delta."""
        return verdict(self.delta.interval) if self.delta else None

    @property
    def status(self) -> str:
        """`done`, `partial` (some seeds are not there), `failed` or `missing` (none is)."""
        if len(self.done) == len(self.run_ids):
            return "done"
        if self.done:
            return "partial"
        return "failed" if self.failed else "missing"

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader has to know about this row, a phrase each."""
        found = [*self._shared]
        if self.seen and not self.is_baseline:
            found.append(f"teacher has seen {', '.join(self.seen)}")
        if self.method.needs_teacher_at_test:
            found.append("needs teacher at test")
        if self.chosen:
            found.append(f"chosen on val: {settings_text(self.chosen)}")
        if self.gradient_ratio is not None:
            found.append(told(self.gradient_ratio))
        for seeds, word in ((self.failed, "failed"), (self.stale, "stale"), (self.missing, "missing")):
            if seeds:
                found.append(f"{len(seeds)} of {len(self.run_ids)} {word}")
        if self.done and self.top1 is None:
            found.append("not evaluated on test")
        if self.verdict == "undecided":
            found.append(undecided(self.delta))
        elif self.delta is None and self.done and not self.is_baseline:
            found.append("no finished baseline of the same seed")
        return tuple(found)

    @property
    def _shared(self) -> list[str]:
        """Whose runs these are as well."""
        found = [f"{self.key.student} is {self.same_as}"] if self.same_as else []
        found += [f"{student} is {self.key.student}" for student in self.also]
        if self.shared_by:
            many = len(self.shared_by) > 3
            found.append(f"for {f'{len(self.shared_by)} teachers' if many else ', '.join(self.shared_by)}")
        return found


def undecided(delta: Delta | None) -> str:
    """Say why a delta decides nothing, and from which size on so many seeds show one in 4 of 5 cases."""
    if delta is None or delta.interval.n < 2:
        return "cannot be decided with 1 seed"
    smallest = smallest_detectable(delta.interval.n, delta.interval.sd or 0.0)
    what = f" (these would show {smallest:.1f} pp or more)" if smallest and smallest < 100 else ""
    return f"cannot be decided with {delta.interval.n} seeds{what}"


def build_rows(found: Gathered) -> list[Row]:
    """Make all rows, within data set and recipe by delta and then by accuracy; the empty ones come last."""
    twins = _twins(found)
    rows = [_row(found, cell, twins.get(cell.key)) for cell in found.cells.values()]
    return sorted(rows, key=_order)


def folded(rows: Sequence[Row]) -> list[Row]:
    """Show a run once: a student that is another, and a baseline that teachers share, are one row."""
    kept: dict[object, Row] = {}
    for row in sorted(rows, key=lambda row: row.same_as is not None):
        key = row.key
        runs = tuple(row.run_ids.items())
        place = (key.dataset, key.recipe, None if row.is_baseline else key.teacher, key.method, runs)
        first = kept.setdefault(place, row)
        also = {*first.also, *([] if row.is_baseline or key.student == first.key.student else [key.student])}
        shared = {*first.shared_by, *([key.teacher] if row.is_baseline else [])}
        kept[place] = replace(first, also=tuple(sorted(also)), shared_by=tuple(sorted(shared)))
    return sorted(kept.values(), key=_order)


def _order(row: Row) -> tuple[object, ...]:
    key = row.key
    names = (key.teacher, key.method, key.student)
    accuracy = row.top1.mean if row.top1 else 0.0
    delta = row.delta.interval.mean if row.delta else 0.0
    ranked = row.delta is not None or row.is_baseline
    return key.dataset, key.recipe, row.top1 is None, not ranked, -delta, -accuracy, names


def _twins(found: Gathered) -> dict[CellKey, str]:
    """By cell: an earlier student of the same teacher, method and data with the very same runs."""
    first: dict[tuple[object, ...], str] = {}
    twins = {}
    for key, cell in found.cells.items():
        other = first.setdefault(
            (key.dataset, key.recipe, key.teacher, key.method, tuple(sorted(cell.runs.items()))), key.student
        )
        if other != key.student:
            twins[key] = other
    return twins


def _row(found: Gathered, cell: GatheredCell, same_as: str | None) -> Row:
    states = {seed: _state(found, id_) for seed, id_ in sorted(cell.runs.items())}
    records = {s: found.records[cell.runs[s]] for s, state in states.items() if state == "done"}
    images = {int(r.metrics[TEST]["n"]) for r in records.values() if "n" in r.metrics.get(TEST, {})}
    n = images.pop() if len(images) == 1 else None
    top1 = found.by_seed(cell.runs, TEST, "top1")
    is_baseline = bool(cell.runs) and cell.baselines in ({}, cell.runs) and cell.method.kind == "baseline"
    bases = {} if is_baseline else cell.baselines
    base = found.by_seed(bases, TEST, "top1")
    ratios = {s: gradient_ratio(r.gradient_norms, cell.method.name) for s, r in records.items()}
    walls = [float(r.cost["wall_s"]) for r in records.values() if r.cost.get("wall_s") is not None]
    return Row(
        key=cell.key,
        teacher=cell.teacher,
        method=cell.method,
        is_baseline=is_baseline,
        same_as=same_as,
        run_ids=dict(sorted(cell.runs.items())),
        done=_in_state(states, "done"),
        failed=_in_state(states, "failed"),
        missing=_in_state(states, "missing"),
        stale=_in_state(states, "stale"),
        images=n,
        top1=t_interval(top1.values(), step=1 / n if n else 0.0) if top1 else None,
        delta=paired_delta(top1, base, images=n),
        resampled=None if is_baseline else _resample(found, cell, sorted(top1.keys() & base.keys())),
        macro=_mean(found.by_seed(cell.runs, TEST, "mean_per_class")),
        shifted=shift_scores(found, cell, records),
        wall_s=sum(walls) / len(walls) if walls else None,
        hardware=tuple(sorted({hardware(r.provenance) for r in records.values()})),
        seen=seen_pictures(found, cell.teacher, cell.runs.values(), cell.pictures),
        scores=top1,
        chosen=chosen_settings(found, cell.key),
        trials=trials_spent(found, cell.key),
        gradient_ratio=_mean({seed: ratio for seed, ratio in ratios.items() if ratio is not None}),
        groups=class_groups(found, cell.runs, bases, TEST, n),
        fidelity=cell_fidelity(found, cell),
    )


def _in_state(states: Mapping[int, str], wanted: str) -> tuple[int, ...]:
    return tuple(seed for seed, state in states.items() if state == wanted)


def _state(found: Gathered, run_id: str) -> str:
    record = found.records.get(run_id)
    if record:
        return record.status
    return "stale" if run_id in found.stale else "missing"


def _mean(by_seed: Mapping[int, float]) -> float | None:
    return t_interval(by_seed.values()).mean if by_seed else None


def hardware(provenance: Mapping[str, object]) -> str:
    """Say on what a run was made, in one phrase."""
    facts = provenance.get("hardware")
    if not isinstance(facts, Mapping):
        return str(facts or "not recorded")
    parts = [str(facts.get("device", "?"))]
    if "threads" in facts:
        parts.append(f"{facts['threads']} thread" + ("" if facts["threads"] == 1 else "s"))
    parts += [str(facts[name]) for name in ("instruction_set", "system") if facts.get(name)]
    return ", ".join(parts)


def _resample(found: Gathered, cell: GatheredCell, seeds: list[int]) -> Interval | None:
    """Bootstrap the delta over images and seeds from the stored predictions; None where they are not kept."""
    pairs = [(_right(found, cell.runs[s]), _right(found, cell.baselines[s])) for s in seeds]
    if not pairs or any(one is None or two is None for one, two in pairs):
        return None
    treated, base = zip(*pairs, strict=True)
    orders = {tuple(one[0]) for one in (*treated, *base) if one}
    if len(orders) != 1:
        raise MixedError(f"{_ids(cell)}: predictions are not of the same images in the same order")
    first, second = (np.stack([one[1] for one in side if one]) for side in (treated, base))
    return paired_bootstrap(first, second, seed=seeded(0, "report", *cell.runs.values()), draws=1000)


def _ids(cell: GatheredCell) -> str:
    return f"runs {', '.join((*cell.runs.values(), *cell.baselines.values()))}"


def _right(found: Gathered, run_id: str) -> tuple[list[str], np.ndarray] | None:
    """Ids of the test images, and which of them the run classifies rightly; None if that was not kept."""
    if run_id not in found.rights:
        arrays = found.homes[run_id].predictions(run_id) or {}
        names = [f"{TEST}/{part}" for part in ("ids", "label", "top5")]
        found.rights[run_id] = None
        if set(names) <= set(arrays):
            ids, label, top5 = (arrays[name] for name in names)
            found.rights[run_id] = (ids.tolist(), top5[:, 0] == label)
    return found.rights[run_id]
