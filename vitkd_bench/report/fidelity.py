"""How closely a student follows its teacher; of a baseline, which reads none, from stored predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from vitkd_bench.report.gather import Gathered, GatheredCell, MixedError
from vitkd_bench.report.shifts import TEST
from vitkd_bench.statistics import t_interval

MEASURES = ("agreement", "kl")
Arrays = Mapping[str, np.ndarray[Any, Any]]


def cell_fidelity(found: Gathered, cell: GatheredCell) -> dict[str, float]:
    """Give `agreement`, a fraction, and `kl`, in nats, on test: means over the seeds that have them.

    A run that reads its teacher has both in its record. Of a baseline they are found from its predictions and
    the teacher's, where these are stored; there is no divergence where only the first classes are kept.

    Raises:
        MixedError: stored predictions are not of the same images.
    """
    by_run = {id_: _of_run(found, cell, id_) for id_ in cell.runs.values()}
    values = {name: [one[name] for one in by_run.values() if name in one] for name in MEASURES}
    return {name: t_interval(known).mean for name, known in values.items() if known}


def _of_run(found: Gathered, cell: GatheredCell, run_id: str) -> dict[str, float]:
    record = found.done(run_id)
    if record is None:
        return {}
    stated = record.metrics.get(TEST, {})
    if cell.method.kind != "baseline" or "agreement" in stated:
        return {name: stated[name] for name in MEASURES if name in stated}
    teacher = next(_stored_teachers(found, cell), None)
    student = found.homes[run_id].predictions(run_id) if teacher else None
    if teacher is None or student is None:
        return {}
    try:
        return stored_fidelity(student, teacher, TEST)
    except ValueError as error:
        raise MixedError(f"run {run_id} and its teacher {cell.key.teacher}: {error}") from None


def stored_fidelity(student: Arrays, teacher: Arrays, split: str) -> dict[str, float]:
    """Compare two files of predictions: `agreement`, exact, and `kl` in nats where all classes are kept.

    Log-probabilities are kept in half precision: `kl` is right to about a thousandth of the entropy.

    Args:
        student: arrays by `<split>/<name>`, as a run's file has them.
        teacher: the teacher's, in the same form.
        split: which split of both.

    Raises:
        ValueError: they are not of the same images in the same order, or not of the same classes.
    """
    own, other = (_of_split(arrays, split) for arrays in (student, teacher))
    if not own or not other:
        return {}
    if not np.array_equal(own["ids"], other["ids"]):
        raise ValueError("predictions are not of the same images in the same order")
    found = {"agreement": float((own["top5"][:, 0] == other["top5"][:, 0]).mean())}
    if "log_probs" in own and "log_probs" in other:
        one, two = (_normalised(arrays["log_probs"]) for arrays in (own, other))
        if one.shape != two.shape:
            raise ValueError(f"predictions are of {one.shape[1]} and of {two.shape[1]} classes")
        found["kl"] = max(0.0, float((np.exp(two) * (two - one)).sum(axis=1).mean()))
    return found


def _of_split(arrays: Arrays, split: str) -> dict[str, np.ndarray[Any, Any]]:
    start = f"{split}/"
    named = {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}
    return named if {"ids", "top5"} <= set(named) else {}


def _normalised(log_probs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Let half-precision log-probabilities add up to one again."""
    values = log_probs.astype(np.float64)
    return np.asarray(values - np.log(np.exp(values).sum(axis=1, keepdims=True)))


def _stored_teachers(found: Gathered, cell: GatheredCell) -> Iterator[Arrays]:
    """Give what is stored of a cell's teacher, as the other methods of its row read it; no control's."""
    key = cell.key
    for other in found.cells.values():
        same = (other.key.dataset, other.key.recipe, other.key.teacher) == (
            key.dataset,
            key.recipe,
            key.teacher,
        )
        if not same or other.method.control_of is not None:
            continue
        names = {found.runs[id_].teacher_predictions for id_ in other.runs.values()}
        for name in sorted(name for name in names if name):
            for store in found.stores:
                if arrays := found.kept(store, name):
                    yield arrays
