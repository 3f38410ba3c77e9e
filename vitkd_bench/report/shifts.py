"""Accuracy on shifted images, each beside the same classes without the shift, by a rule that is named."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vitkd_bench.report.contamination import seen_pictures
from vitkd_bench.report.gather import Gathered, GatheredCell, MixedError, asked_runs
from vitkd_bench.spec import Record
from vitkd_bench.statistics import Interval, t_interval

TEST = "test"
PLAIN = frozenset({TEST, "val", "train"})
"""Splits that are no shift."""


@dataclass(frozen=True, slots=True, order=True)
class Scoring:
    """How a split is scored: a rule in words, the hash of its class map, and what a drop is measured from.

    Numbers of two scorings never share a column. Without a class map all classes of the data set are scored.
    """

    rule: str = "all classes"
    classes: str = ""
    clean_split: str = TEST

    @staticmethod
    def of(record: Record, split: str) -> Scoring:
        """Read it from a record."""
        told = record.scoring.get(split)
        if told is None:
            return Scoring()
        return Scoring(str(told["rule"]), str(told["classes"]), str(told.get("clean_split", TEST)))

    @property
    def title(self) -> str:
        """The rule, with the hash by which equal ones are known."""
        return f"{self.rule} (class map {self.classes})" if self.classes else self.rule


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftScore:
    """A row's result on one shift split, over its seeds.

    `top1` is under the rule of `scoring`, `clean` that of the same classes without shift, `over_all` and
    `clean_over_all` those with any training class as an answer: fractions. `drop` and `drop_over_all` are
    clean minus shifted, paired by seed, in percentage points. `clean_n` counts the images without shift.
    `seen` names collections of the shifted pictures that the teacher has seen.
    """

    scoring: Scoring
    top1: Interval
    clean: Interval | None
    clean_n: int | None
    drop: Interval | None
    over_all: Interval | None = None
    clean_over_all: Interval | None = None
    drop_over_all: Interval | None = None
    seen: tuple[str, ...] = ()


def shift_scores(found: Gathered, cell: GatheredCell, records: Mapping[int, Record]) -> dict[str, ShiftScore]:
    """Gather what a cell's finished runs, by seed, have on each shift split, by its name."""
    splits = sorted({split for record in records.values() for split in record.metrics} - PLAIN)
    scores = {split: _score(found, cell, records, split) for split in splits}
    return {split: score for split, score in scores.items() if score}


def _score(
    found: Gathered, cell: GatheredCell, records: Mapping[int, Record], split: str
) -> ShiftScore | None:
    measured = [record for record in records.values() if "top1" in record.metrics.get(split, {})]
    if not measured:
        return None
    scoring = Scoring.of(measured[0], split)

    def values(name: str) -> dict[int, float]:
        # without a class map the clean classes are all of them, and so are those of the clean split
        whole = name.startswith("clean_") and not scoring.classes
        where, wanted = (scoring.clean_split, name.removeprefix("clean_")) if whole else (split, name)
        return found.by_seed(cell.runs, where, wanted)

    told = measured[0].scoring.get(split)
    pictures = cell.pictures if told is None else tuple(told.get("pictures", [split.rpartition("/")[2]]))
    n, clean_n = _one(values("n")), _one(values("clean_n"))
    return ShiftScore(
        scoring=scoring,
        top1=t_interval(values("top1").values(), step=_step(n)),
        clean=_interval(values("clean_top1"), _step(clean_n)),
        clean_n=clean_n,
        drop=_difference(values("clean_top1"), values("top1"), (clean_n, n)),
        over_all=_interval(values("top1_over_all"), _step(n)),
        clean_over_all=_interval(values("clean_top1_over_all"), _step(clean_n)),
        drop_over_all=_difference(values("clean_top1_over_all"), values("top1_over_all"), (clean_n, n)),
        seen=seen_pictures(found, cell.teacher, cell.runs.values(), pictures),
    )


def _one(counts: Mapping[int, float]) -> int | None:
    """Give the number of images if it is the same in all runs."""
    known = set(counts.values())
    return int(known.pop()) if len(known) == 1 else None


def _step(images: int | None) -> float:
    return 1 / images if images else 0.0


def _interval(by_seed: Mapping[int, float], step: float) -> Interval | None:
    return t_interval(by_seed.values(), step=step) if by_seed else None


def _difference(
    clean: Mapping[int, float], shifted: Mapping[int, float], images: tuple[int | None, int | None]
) -> Interval | None:
    """Give clean minus shifted of the seeds that have both, in percentage points; each comes in steps."""
    seeds = sorted(clean.keys() & shifted.keys())
    step = 100 * math.hypot(*map(_step, images))
    return t_interval((100 * (clean[seed] - shifted[seed]) for seed in seeds), step=step) if seeds else None


def check_scoring(found: Gathered) -> None:
    """Hold that a column has one meaning: rule, class map and images of a shift split, a pair of thresholds.

    Raises:
        MixedError: two records of a data set differ in it; names both.
    """
    known: dict[tuple[str, str], tuple[str, Sequence[object], str]] = {}
    for dataset, _, _, id_ in asked_runs(found):
        record = found.done(id_)
        for split, meaning, words in _meanings(record) if record else []:
            before = known.setdefault((dataset, split), (id_, meaning, words))
            if before[1] != meaning:
                raise MixedError(
                    f"data set {dataset}, split {split}: run {before[0]} is scored {before[2]} and run {id_} "
                    f"{words}; report them apart, or run one of them again"
                )


def _meanings(record: Record) -> list[tuple[str, Sequence[object], str]]:
    """Give each split with what its numbers mean, for a comparison and in words."""
    found: list[tuple[str, Sequence[object], str]] = []
    for split, metrics in record.metrics.items():
        if split not in PLAIN:
            scoring = Scoring.of(record, split)
            images = str(record.scoring.get(split, {}).get("images", ""))
            words = f"{scoring.title}, clean {scoring.clean_split}"
            words += f", images {images}" if images else ""
            found.append((split, (scoring, images), words))
        elif "head_above" in metrics:
            bounds = metrics["head_above"], metrics["tail_below"]
            words = f"with a head above {bounds[0]:.0f} and a tail below {bounds[1]:.0f} training images"
            found.append((split, bounds, words))
    return found
