"""Whether an output folder holds what it says: records against plan, schema, digest and predictions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitkd_bench.records import Store
from vitkd_bench.spec import Record, Run

if TYPE_CHECKING:
    import numpy as np

TOLERANCE = 1e-9  # both are counts over n: they agree to rounding or not at all


def check(folder: Path) -> tuple[int, list[str]]:
    """Check every record of an output folder; nothing in it is touched.

    Returns:
        How many records were read, and a sentence for each problem; a run that failed or is not there yet is
        none.

    Raises:
        BadInputError: the folder has no plan.
        DamagedFileError: its plan is damaged.
    """
    store = Store(folder, look_only=True)
    plan, records = store.read_plan(), store.records()
    problems = list(store.damage)
    runs = plan.all_runs()
    for run_id, record in records.items():
        run = runs.get(run_id)
        if run is None:
            continue  # of an earlier plan in this folder (--only, another version): sound, and never counted
        problems += [f"{store.record_path(run_id)}: {problem}" for problem in _against_plan(record, run)]
        if record.status == "done" and run_id in plan.runs:
            wanted = plan.splits_of(run_id)
            problems += [f"{store.record_path(run_id)}: {p}" for p in _splits(record, wanted, store)]
    problems += [
        f"{store.plan_path}: run {id_} has the id {run.id}" for id_, run in runs.items() if id_ != run.id
    ]
    return len(records) + len(store.damaged_runs), problems


def _against_plan(record: Record, run: Run) -> Iterator[str]:
    declared: dict[str, Any] = {
        "cell_key": run.cell_key,
        "protocol": run.protocol,
        "seed": run.seed,
        "versions": run.versions,
        "label_space": run.dataset.label_space,
    }
    for field, wanted in declared.items():
        if getattr(record, field) != wanted:
            yield f"{field}: {getattr(record, field)}, the plan says {wanted}"
    if record.cell.method != run.method.name or record.cell.dataset != run.dataset.name:
        said = f"{record.cell.method} on {record.cell.dataset}"
        yield f"cell: {said}, the plan says {run.method.name} on {run.dataset.name}"


def _splits(record: Record, wanted: tuple[str, ...], store: Store) -> Iterator[str]:
    for split in sorted(set(wanted) - set(record.metrics)):
        yield f"metrics: {split} is missing"
    known = len(store.damage)
    arrays = store.predictions(record.run_id)
    if arrays is None:
        yield store.damage[-1] if len(store.damage) > known else "its predictions are missing"
        return
    for split, metrics in record.metrics.items():
        if f"{split}/label" not in arrays:
            yield f"predictions: {split} is missing"
            continue
        own = {name: arrays.get(f"{split}/{name}") for name in ("label", "top5", "over_all")}
        yield from _against_predictions(split, metrics, own)


def _against_predictions(
    split: str, metrics: dict[str, float], arrays: dict[str, np.ndarray | None]
) -> Iterator[str]:
    label, best, over_all = arrays["label"], arrays["top5"], arrays["over_all"]
    if label is None or best is None:
        yield f"predictions: {split} is not whole"
        return
    hits = best == label[:, None]
    found = {
        "n": float(len(label)),
        "top1": float(hits[:, 0].mean()),
        "top5": float(hits.any(axis=1).mean()),
        **({} if over_all is None else {"top1_over_all": float((over_all == label).mean())}),
    }
    for name, value in found.items():
        if name in metrics and abs(metrics[name] - value) > TOLERANCE:
            yield f"metrics.{split}.{name}: {metrics[name]:g}, its predictions say {value:g}"
