"""Students that were trained and kept: for a split that is added they are evaluated and not trained again."""

from __future__ import annotations

from typing import Any

import safetensors.torch
from torch import Tensor, nn

from vitkd_bench.contracts import Method
from vitkd_bench.engine.outcome import Outcome, digest
from vitkd_bench.engine.trainee import Trainee
from vitkd_bench.records import Store
from vitkd_bench.spec import Record


def kept_student(store: Store, trainee: Trainee, split_hash: str) -> tuple[Record, dict[str, Tensor]] | None:
    """Give the record and the weights of a run that is done, where its student is all that evaluation needs.

    None where the run has to be trained: no record that says `done` of the splits as they are now
    (`split_hash`), no weights, those of another run (set aside, named in `store.damage`), or a method that
    evaluates more than the student's own weights.
    """
    record, path = store.read(trainee.run.id), store.weights_path(trainee.run.id)
    if record is None or record.status != "done" or record.split_hash != split_hash:
        return None
    if not path.is_file() or not _student_is_all(trainee.method):
        return None
    content = path.read_bytes()
    if digest(content) != record.weights_sha256:
        reason = f"weights of run {trainee.run.id} are not those of its record"
        store.damage.append(f"{reason}; set aside as {store.set_aside(path, reason)}")
        return None
    return record, safetensors.torch.load(content)


def evaluated_again(record: Record, outcome: Outcome, provenance: dict[str, Any]) -> Record:
    """Write the record of a kept student anew: measured now, trained as it was."""
    return record.model_copy(
        update={
            "metrics": outcome.metrics,
            "scoring": outcome.scoring,
            "notes": tuple(dict.fromkeys((*outcome.notes, *record.notes))),
            "provenance": {**record.provenance, "evaluated_again": provenance},
        }
    )


def _student_is_all(method: Method) -> bool:
    learned = isinstance(method, nn.Module) and any(True for _ in method.parameters())
    return type(method).result is Method.result and not (method.injects() and learned)
