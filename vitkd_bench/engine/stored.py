"""A teacher that is read from a file: its largest outputs for every view of every training image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch
from torch import Tensor

from vitkd_bench.contracts import Batch, Features
from vitkd_bench.contracts.taps import LOGITS
from vitkd_bench.engine.teacher import ready_record
from vitkd_bench.methods.stored_outputs import spread
from vitkd_bench.plan import contract_of
from vitkd_bench.records import Preparations
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Architecture, BadInputError, Plan, Run, Teacher, WorldError


class Outputs:
    """Stored outputs, one epoch of them in memory at a time.

    The file holds for each epoch `probabilities/<epoch>` (N, k) and `classes/<epoch>` (N, k) by the position
    of an image in the training split; an image that the epoch leaves out has no numbers there.
    """

    def __init__(self, path: Path, classes: int) -> None:
        """Name the file and the number of the data set's classes."""
        self.path = path
        self.classes = classes
        self._epoch: tuple[int, Tensor, Tensor] | None = None

    def read(self, batch: Batch, wanted: frozenset[str]) -> Features:
        """Give logits (B, K) whose softmax are the stored probabilities, what is left spread evenly.

        Raises:
            BadInputError: something else than logits is wanted.
            WorldError: an image of the batch has no outputs in its epoch.
        """
        if other := sorted(wanted - {LOGITS}):
            raise BadInputError(f"tap {other[0]!r}: of this teacher nothing but {LOGITS} is kept")
        probabilities, classes = self._of(batch.epoch)
        ids = batch.ids.cpu()
        kept = probabilities[ids].float()
        if kept.isnan().any():
            raise WorldError(f"{self.path}: epoch {batch.epoch} lacks outputs of an image that it shows")
        # none is exactly 0, whose logarithm is infinite
        target = spread(kept, classes[ids], self.classes).clamp(min=torch.finfo(torch.float32).tiny)
        return Features(logits=target.log().to(batch.pixels.device))

    def _of(self, epoch: int) -> tuple[Tensor, Tensor]:
        if self._epoch is None or self._epoch[0] != epoch:
            with safetensors.safe_open(self.path, framework="pt") as file:
                names = [f"{what}/{epoch}" for what in ("probabilities", "classes")]
                if not set(names) <= set(file.keys()):
                    raise WorldError(f"{self.path}: holds no outputs of epoch {epoch}")
                self._epoch = (epoch, *(file.get_tensor(name) for name in names))
        return self._epoch[1:]


@dataclass(frozen=True, slots=True)
class StoredTeacher:
    """Stored outputs, the contract under which they are read, and what is known of the file."""

    outputs: Outputs
    contract: Teacher
    architecture: Architecture
    known: dict[str, str | None]


def read_stored(plan: Plan, runs: list[Run], preparations: Preparations) -> StoredTeacher | None:
    """Open the stored outputs that some of `runs` read; None if their teacher is a network or none.

    Raises:
        BadInputError: they belong to another stream than the one that the runs see.
        WorldError: they are not there.
    """
    run = next((run for run in runs if run.teacher and run.teacher.preparation), None)
    if run is None or run.teacher is None or run.teacher.preparation is None:
        return None
    id_ = run.teacher.preparation
    made_by = plan.preparations[id_]
    if METHODS.get(made_by.method.name).kind != "store":
        return None
    if made_by.stream_key != run.stream_key:
        raise BadInputError(
            f"run {run.id}: the stored outputs {id_} are of another stream: data set, recipe, image size and "
            "seed must be those of the run"
        )
    record = ready_record(id_, f"teacher {run.teacher.name}: stored outputs", preparations)
    contract, architecture = contract_of(run.teacher, made_by)
    outputs = Outputs(preparations.weights(id_), len(run.dataset.classes))
    return StoredTeacher(outputs, contract, architecture, {"outputs_sha256": record.weights_sha256})
