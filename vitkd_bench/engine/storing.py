"""Storing outputs: one pass of a teacher over each epoch of a run's own stream, kept; a record."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vitkd_bench.contracts import Batch, CellFacts, Examples
from vitkd_bench.contracts.taps import LOGITS
from vitkd_bench.engine.options import Interrupted, PackOptions
from vitkd_bench.engine.outcome import failed_record, prepared_record
from vitkd_bench.engine.outputs_file import OutputsFile
from vitkd_bench.engine.showing import Showing
from vitkd_bench.engine.teacher import ReadTeacher, read_teacher
from vitkd_bench.methods.stored_outputs import StoredOutputs, largest, packed
from vitkd_bench.pipeline import Splits, TrainStream, load, open_splits, ready
from vitkd_bench.records import Preparations, Store
from vitkd_bench.spec import Failure, Plan, Record, Run


class NonFiniteOutputError(Exception):
    """The teacher's outputs are infinite or not numbers."""


def store_outputs(
    plan: Plan, run: Run, store: Store, preparations: Preparations, options: PackOptions
) -> None:
    """Keep the teacher's outputs that a run of `stored_outputs` stands for, with a record.

    The teacher sees what it would see in training: the first view of each image, epoch by epoch. A teacher
    whose outputs are no numbers leaves a failed record in `store`. There are no checkpoints: a pass that was
    interrupted is made again.

    Raises:
        Interrupted: `options.should_stop` turned true.
        VitkdError: data or the teacher's weights cannot be read.
    """
    began = time.perf_counter()
    read = read_teacher(plan, [run], preparations, torch.device(options.device))
    if read is None:
        raise TypeError(f"run {run.id}: outputs are those of a teacher, and its run names none")
    showing = Showing.of(options, run.student.image_size, read)
    splits = open_splits(run.dataset, options.roots, run.student.image_size, showing.others)
    shelf = _Shelf(run, read, StoredOutputs.Config.parse(run.method.settings, f"run {run.id}").k)
    draft = preparations.draft(run.id)
    try:
        file = shelf.fill(draft, splits.train, showing, options)
        record = _record(shelf, file, splits, showing, began)
        preparations.adopt(record, draft)
    except NonFiniteOutputError as error:
        failure = Failure(kind="non_finite_output", message=str(error))
        store.write(failed_record(run, read.contract, failure))
    finally:
        shutil.rmtree(draft.parent, ignore_errors=True)  # gone where it was adopted


def _record(shelf: _Shelf, file: OutputsFile, splits: Splits, showing: Showing, began: float) -> Record:
    return prepared_record(
        shelf.run,
        shelf.read.contract,
        metrics={"train": {**shelf.metrics(), "bytes": float(file.bytes)}},
        split_hash=splits.split_hash,
        weights_sha256=file.sha256,
        teacher_weights=shelf.read.known,
        seconds=time.perf_counter() - began,
        device=showing.device,
        notes=(shelf.note(len(splits.train), file.bytes),),
    )


@dataclass
class _Shelf:
    """What is kept of each epoch, and sums over all of them."""

    run: Run
    read: ReadTeacher
    k: int
    images: int = 0
    right: int = 0
    mass: float = 0.0

    @property
    def width(self) -> int:
        """How many probabilities are kept of an image."""
        return min(self.k, len(self.run.dataset.classes))

    def fill(self, path: Path, train: Examples, showing: Showing, options: PackOptions) -> OutputsFile:
        """Write what the teacher says into a new file, an epoch at a time."""
        shape, epochs = (len(train), self.width), self.run.recipe.epochs
        empty = packed(torch.full(shape, torch.nan), torch.zeros(shape), len(self.run.dataset.classes))
        with OutputsFile(path, epochs, empty) as file:
            for epoch in range(epochs):
                probabilities, classes = (tensor.clone() for tensor in empty)
                stream = TrainStream(train, self.run.recipe, self.run.seed, 1, epoch, teacher=showing.teacher)
                for batch in load(stream.raw, len(stream), showing.loading):
                    if options.should_stop():
                        raise Interrupted
                    found = self._outputs(ready(batch, showing.device))
                    probabilities[batch.ids], classes[batch.ids] = found
                file.add(probabilities, classes)
            file.finish()
        return file

    @torch.no_grad()
    def _outputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        network = self.read.network
        facts = CellFacts(self.run.student, self.run.dataset, self.read.contract, self.read.architecture)
        logits, known = network(batch.for_teacher, frozenset({LOGITS})).logits, facts.teacher_classes
        network.clear()
        if logits is None or known is None:
            raise TypeError(f"{self.read.contract.name} gives no logits of these classes")
        if not logits.isfinite().all():
            raise NonFiniteOutputError(f"an output in epoch {batch.epoch} is infinite or not a number")
        probabilities, classes = (t.cpu() for t in largest(logits[:, list(known)], self.k))
        self.images += len(batch.ids)
        self.right += int(classes[:, 0].eq(batch.labels.cpu()).sum())
        self.mass += float(probabilities.double().sum())
        return packed(probabilities, classes, len(known))

    def note(self, images: int, size: int) -> str:
        """Say in one sentence what is kept, and its size in bytes."""
        kept = f"the {self.width} largest of {len(self.run.dataset.classes)} probabilities"
        return f"{kept} for each of {images} images in {self.run.recipe.epochs} epochs: {size} bytes"

    def metrics(self) -> dict[str, float]:
        """Give counts, the teacher's accuracy on what it saw, and the mean share of mass that is kept."""
        return {
            "n": float(self.images),
            "k": float(self.width),
            "top1": self.right / self.images,
            "kept_mass": self.mass / self.images,
        }
