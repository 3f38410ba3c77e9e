"""From a trained run to its record, predictions and weights."""

from __future__ import annotations

import hashlib
import resource
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import safetensors.torch
import torch

from vitkd_bench.engine.provenance import provenance
from vitkd_bench.engine.trainee import Trainee
from vitkd_bench.networks import ViTNetwork, fingerprint
from vitkd_bench.plan import MAKERS, baseline_of
from vitkd_bench.registry import CONTROLS, METHODS
from vitkd_bench.spec import SELF, Architecture, CellNames, Failure, Record, Run, Teacher


@dataclass(slots=True)
class Outcome:
    """What a finished run gives beside its curve; `waited_s` are seconds that its pack waited for data."""

    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    val_selected: dict[str, Any] = field(default_factory=dict)
    predictions: dict[str, np.ndarray] = field(default_factory=dict)
    scoring: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    waited_s: float = 0.0

    def add(
        self,
        split: str,
        metrics: dict[str, float],
        scoring: dict[str, Any],
        predictions: Mapping[str, np.ndarray],
    ) -> None:
        """Put down what was measured on a split, how it was scored, and what is kept of its predictions."""
        self.metrics[split] = metrics
        self.predictions |= {f"{split}/{key}": array for key, array in predictions.items()}
        if scoring:
            self.scoring[split] = scoring


def weights_bytes(network: ViTNetwork) -> bytes:
    """Write a network's weights as safetensors; equal weights give equal bytes."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.module.state_dict().items()}
    return safetensors.torch.save(state)


def digest(data: bytes) -> str:
    """Give the SHA-256 of some bytes."""
    return hashlib.sha256(data).hexdigest()


def done_record(
    trainee: Trainee, outcome: Outcome, split_hash: str, teacher_weights: Mapping[str, Any]
) -> Record:
    """Write the record of a run that ended well."""
    return Record(
        **_common(trainee.run, trainee.cell.teacher),
        status="done",
        split_hash=split_hash,
        student_fingerprint=fingerprint(trainee.network),
        config=_config(trainee),
        metrics=outcome.metrics,
        metrics_val_selected=outcome.val_selected,
        scoring=outcome.scoring,
        scored=_scored(trainee),
        curve=tuple(trainee.curve),
        gradient_norms=trainee.gradients.means(),
        weights_sha256=digest(weights_bytes(trainee.trained())),
        cost={**_cost(trainee), "data_wait_s": round(outcome.waited_s, 3)},
        provenance=provenance(trainee.device, teacher_weights),
        notes=tuple(outcome.notes),
    )


def prepared_record(  # noqa: PLR0913  (the fields of a record, all by name)
    run: Run,
    teacher: Teacher,
    *,
    metrics: dict[str, dict[str, float]],
    split_hash: str,
    weights_sha256: str,
    teacher_weights: Mapping[str, Any],
    seconds: float,
    device: torch.device,
    notes: tuple[str, ...] = (),
) -> Record:
    """Write the record of a preparation that took no training steps."""
    return Record(
        **_common(run, teacher),
        status="done",
        split_hash=split_hash,
        config=run.plain(),
        metrics=metrics,
        weights_sha256=weights_sha256,
        cost={"wall_s": round(seconds, 3), "device": device.type},
        provenance=provenance(device, teacher_weights),
        notes=notes,
    )


def failed_record(
    run: Run, teacher: Teacher | None, error: Failure, trainee: Trainee | None = None
) -> Record:
    """Write the record of a run that ended without a result; `trainee` is None if it never began."""
    device = trainee.device if trainee else torch.device("cpu")
    return Record(
        **_common(run, teacher),
        status="failed",
        config=_config(trainee) if trainee else run.plain(),
        curve=tuple(trainee.curve) if trainee else (),
        cost=_cost(trainee) if trainee else {},
        provenance=provenance(device),
        error=error,
    )


def describe_student(architecture: Architecture) -> str:
    """Name a student by what it is: `standard`, or its components."""
    return "+".join(architecture.components.present()) or "standard"


def _common(run: Run, teacher: Teacher | None) -> dict[str, Any]:
    entry = METHODS.get(run.method.name)
    if run.teacher and run.teacher.name == SELF:
        teacher = None
    control = run.method.control and CONTROLS.get(run.method.control.name)
    facts: Mapping[str, Any] = {
        "teacher": teacher and {"family": teacher.family, "group": teacher.group, "seen": list(teacher.seen)},
        "method": {
            "title": f"{entry.title}, control: {control.title}" if control else entry.title,
            "kind": entry.kind,
            "control_of": entry.name if control else None,
            **({"control": control.name, "claim": control.claim} if control else {}),
        },
    }
    return {
        "run_id": run.id,
        "cell_key": run.cell_key,
        "cell": CellNames(
            teacher=teacher.name if teacher else None,
            student=describe_student(run.student),
            method=run.method.canonical,
            dataset=run.dataset.name,
            recipe=run.recipe.name,
        ),
        "facts": dict(facts),
        "versions": run.versions,
        "seed": run.seed,
        "baseline": None if entry.kind in MAKERS else baseline_of(run).id,
        "protocol": run.protocol,
        "label_space": run.dataset.label_space,
        "needs_teacher_at_test": entry.teacher_at_test(entry.method.Config.parse(run.method.settings)),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _scored(trainee: Trainee) -> str:
    momentum = trainee.run.recipe.ema
    weights = "weights of the last step" if momentum is None else f"average of the weights (ema {momentum:g})"
    return f"{trainee.method.scored()}, {weights}"


def _config(trainee: Trainee) -> dict[str, Any]:
    parameters = sum(p.numel() for p in trainee.network.parameters())
    return {
        **trainee.run.plain(),
        "method_settings": trainee.config.plain(),
        **({"control_settings": trainee.control.config.plain()} if trainee.run.method.control else {}),
        "student_parameters": parameters,
        "student_tokens": trainee.run.student.tokens,
    }


def _cost(trainee: Trainee) -> dict[str, Any]:
    cuda = trainee.device.type == "cuda"
    # on Linux ru_maxrss is in KiB; the whole process, so a pack's runs share it
    peak = torch.cuda.max_memory_allocated(trainee.device) if cuda else _peak_rss()
    return {
        "wall_s": round(trainee.seconds, 3),
        "images_per_s": round(trainee.images / trainee.seconds, 1) if trainee.seconds else None,
        "peak_memory_bytes": peak,
        "device": trainee.device.type,
    }


def _peak_rss() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
