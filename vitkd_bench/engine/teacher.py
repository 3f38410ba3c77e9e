"""The teacher that the runs of a pack read: its weights found and checked, its head where it needs one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch

from vitkd_bench.networks import (
    ViTNetwork,
    draw_teacher,
    load_teacher,
    text_head,
    tokenizer_sha256,
    weights_sha256,
)
from vitkd_bench.plan import contract_of, headed, probed, text_pin
from vitkd_bench.records import Preparations
from vitkd_bench.registry import METHODS, TEACHERS
from vitkd_bench.spec import (
    Architecture,
    Plan,
    Record,
    ResolvedDataset,
    Run,
    Teacher,
    TeacherUse,
    WorldError,
    seeded,
)


@dataclass(frozen=True, slots=True)
class ReadTeacher:
    """A loaded teacher, its contract (with the head that is used), and what is known of its weights."""

    network: ViTNetwork
    contract: Teacher
    architecture: Architecture
    known: dict[str, str | None]


def read_teacher(
    plan: Plan, runs: list[Run], preparations: Preparations, device: torch.device
) -> ReadTeacher | None:
    """Load the one teacher that some of `runs` read; None if none does.

    Raises:
        WorldError: its weights or its probe are not there, or are not those of the plan.
    """
    run = next((run for run in runs if run.teacher), None)
    if run is None or run.teacher is None:
        return None
    use = run.teacher
    made_by = plan.preparations.get(use.preparation) if use.preparation else None
    contract, architecture = contract_of(use, made_by)
    network, known = _network(plan, use, (contract, architecture), preparations)
    known["backend"] = network.backend
    if use.drawn_head is not None:
        contract = probed(contract, run.dataset)
        _attach_drawn_head(network, use.drawn_head, len(run.dataset.classes))
    if use.head == "probe":
        contract = probed(contract, run.dataset)
        known["probe_sha256"] = _attach_probe(network, use, run.dataset, preparations)
    if use.head == "text":
        contract = headed(contract, run.dataset, "text")
        _attach_texts(network, Path(plan.sources[use.pin].path), use, run.dataset, device)
    return ReadTeacher(network.to(device), contract, architecture, known)


def _network(
    plan: Plan, use: TeacherUse, asked: tuple[Teacher, Architecture], preparations: Preparations
) -> tuple[ViTNetwork, dict[str, str | None]]:
    """Draw a teacher's weights, where a control asks for that, or load them."""
    if use.drawn is not None:
        law, seed = use.drawn
        return draw_teacher(*asked, seeded(seed, "control", "teacher"), law), {}
    path, known = _weights(plan, use, preparations)
    return load_teacher(*asked, path, use.backend), known


def _attach_drawn_head(network: ViTNetwork, seed: int, classes: int) -> None:
    """Put a linear head on the pooled features: weights normal of variance 1 / width, biases zero."""
    width = network.architecture.size.width
    stream = torch.Generator().manual_seed(seeded(seed, "control", "head"))
    weight = torch.randn(classes, width, generator=stream) / width**0.5
    network.attach_probe(weight, torch.zeros(classes))


def _weights(plan: Plan, use: TeacherUse, preparations: Preparations) -> tuple[Path, dict[str, str | None]]:
    if use.preparation:
        record = ready_record(use.preparation, f"teacher {use.name}", preparations)
        made_by = METHODS.get(plan.preparations[use.preparation].method.name)
        # not the registry's teacher, whose weights all records of one name share, but one made from it
        name = "sha256" if made_by.kind == "pretraining" else "made_sha256"
        return preparations.weights(use.preparation), {name: record.weights_sha256}
    source = plan.sources[use.pin]
    found = weights_sha256(Path(source.path))
    if found != source.sha256:
        raise WorldError(
            f"teacher {use.name}: {source.path} has changed since the plan was made (sha256 {found[:12]})"
        )
    return Path(source.path), {"sha256": found, "preflight": source.preflight}


def _attach_probe(
    network: ViTNetwork, use: TeacherUse, dataset: ResolvedDataset, preparations: Preparations
) -> str | None:
    id_ = use.preparations[-1]
    record = ready_record(id_, f"teacher {use.name}: probe for {dataset.name}", preparations)
    head = safetensors.torch.load_file(preparations.weights(id_))
    network.attach_probe(head["weight"], head["bias"])
    return record.weights_sha256


def _attach_texts(
    network: ViTNetwork, path: Path, use: TeacherUse, dataset: ResolvedDataset, device: torch.device
) -> None:
    """Make a head of the data set's class names by the text tower of the file that the teacher came from."""
    teacher = TEACHERS.get(use.name)
    if text_pin(dataset, tokenizer_sha256(teacher, path)) != use.head_pin:
        raise WorldError(
            f"teacher {use.name}: the tokenizer of its text tower has changed since the plan was made"
        )
    names = [info.spoken for info in dataset.classes]
    network.attach_head(text_head(teacher, path, names, dataset.templates, device))


def ready_record(preparation: str, what: str, preparations: Preparations) -> Record:
    """Give the record of a preparation whose file is there and sound.

    Raises:
        WorldError: it is not there; `what` is what the message opens with.
    """
    record = preparations.ready(preparation)
    if record is None or record.weights_sha256 is None:
        raise WorldError(f"{what}: its preparation {preparation} is not there")
    return record
