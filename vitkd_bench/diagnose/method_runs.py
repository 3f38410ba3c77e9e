"""What holds of whole runs of a method: they end, end the same, and keep what they report."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import safetensors.torch
import torch

from vitkd_bench.diagnose.method_bench import Bench
from vitkd_bench.engine.showing import EVALUATED
from vitkd_bench.engine.trainee import Trainee
from vitkd_bench.measures import classification
from vitkd_bench.networks import ViTNetwork, create_student
from vitkd_bench.pipeline import eval_batches
from vitkd_bench.records import Store
from vitkd_bench.spec import BadInputError, Record


def it_trains(bench: Bench) -> Iterator[str]:
    """Two epochs through the loop leave a finished record, with finite and named parts of the loss."""
    record = _record(bench, bench.together)
    for entry in record.curve:
        parts = {key: value for key, value in entry.items() if key.startswith("loss/")}
        if not parts:
            yield f"epoch {entry['epoch']:.0f}: no part of the loss"
        for name, value in parts.items():
            if not math.isfinite(value):
                yield f"{name}: {value}"
            if not re.fullmatch(r"loss/[a-z][a-z0-9_]*", name):
                yield f"{name}: lower case, digits and _ are needed in the name of a part"
    if len(record.curve) != bench.run.recipe.epochs:
        yield f"{len(record.curve)} epochs recorded of {bench.run.recipe.epochs}"


def resumed_and_alone(bench: Bench) -> Iterator[str]:
    """Interrupted after its first epoch and resumed, alone, it ends as beside another run, to the bit."""
    together = _record(bench, bench.together)
    resumed = _record(bench, bench.executed("resumed", (bench.run,), interrupted=True))
    if resumed.result() == together.result():
        return
    alone = _record(bench, bench.executed("alone", (bench.run,)))
    if differ := _differing(alone, together):
        yield f"alone and beside another run it ends with another {differ}"
    if differ := _differing(alone, resumed):
        yield f"resumed it ends with another {differ}: some state is in no buffer or parameter"


def _differing(one: Record, other: Record) -> str:
    ours, theirs = one.result(), other.result()
    return ", ".join(name for name in ours if ours[name] != theirs[name])


def exported_weights_score(bench: Bench) -> Iterator[str]:
    """The kept student scores alone on val what its record says, or the entry says it needs the teacher."""
    record = _record(bench, bench.together)
    trainee = bench.begun()
    injects = bool(trainee.method.injects())
    at_test = bench.entry.teacher_at_test(trainee.config)
    if injects != at_test:
        yield (
            "needs_teacher_at_test is said, and it injects nothing"
            if at_test
            else ("it injects the teacher's attention, and needs_teacher_at_test is not said")
        )
    if injects or at_test:
        return
    found, told = _scored(bench, trainee), record.metrics["val"]
    wrong = [name for name in found if found[name] != told[name]]
    yield from (f"val {name}: {told[name]:.4g} in the record, {found[name]:.4g} alone" for name in wrong)


@torch.no_grad()
def _scored(bench: Bench, trainee: Trainee) -> dict[str, float]:
    student = _kept_student(bench, trainee).eval()
    outputs, labels = [], []
    for batch in eval_batches(bench.setting.splits.val, EVALUATED):
        logits = student(batch.pixels).logits
        if logits is None:
            raise BadInputError("the kept student has no head")
        outputs.append(torch.log_softmax(logits, dim=-1))
        labels.append(batch.labels)
    return classification(torch.cat(outputs), torch.cat(labels))


def _kept_student(bench: Bench, trainee: Trainee) -> ViTNetwork:
    """Load what the run kept: into a plain student, or into one as the method changes it before training."""
    run = bench.run
    weights = safetensors.torch.load_file(bench.together.weights_path(run.id))
    student = create_student(run.student, len(run.dataset.classes), run.dataset.pixels, seed=1)
    if weights.keys() != student.module.state_dict().keys():
        student = trainee.trained()
    student.module.load_state_dict(weights, strict=True)
    return student


def _record(bench: Bench, store: Store) -> Record:
    """Give the record of the tested run.

    Raises:
        BadInputError: it failed; with the reason.
    """
    record = store.read(bench.run.id)
    if record is None:
        raise BadInputError("the run left no record")
    if record.error is not None:
        step = "" if record.error.step is None else f" at step {record.error.step}"
        raise BadInputError(f"the run failed{step}: {record.error.kind}: {record.error.message}")
    return record
