"""Evaluation of a pack: one teacher forward a batch serves every student that needs it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vitkd_bench.contracts import CellFacts, Examples
from vitkd_bench.contracts.taps import LOGITS, POOLED
from vitkd_bench.engine.showing import Showing
from vitkd_bench.engine.trainee import Trainee
from vitkd_bench.measures import classification, fidelity, knn_accuracy
from vitkd_bench.networks import ViTNetwork


@torch.no_grad()
def log_probabilities(
    trainees: Sequence[Trainee], teacher: ViTNetwork | None, examples: Examples, showing: Showing
) -> list[Tensor]:
    """Give (N, K) log-probabilities of each student on the CPU, in eval mode; injected attention included."""
    taps = frozenset[str]().union(*(t.teacher_taps() for t in trainees if t.method.injects()))
    asked = teacher is not None and bool(taps)
    networks = [trainee.trained().eval() for trainee in trainees]
    parts: list[list[Tensor]] = [[] for _ in trainees]
    for batch in showing.evaluated(examples, teacher=asked):
        read = teacher(batch.for_teacher, taps) if teacher is not None and asked else None
        for trainee, network, into in zip(trainees, networks, parts, strict=True):
            given = trainee.method.injected(trainee.seen(read, batch.ids)) if trainee.method.injects() else {}
            logits = network(batch.pixels, frozenset({LOGITS}), given).logits
            if logits is None:
                raise TypeError(f"{trainee.run.method.name}: the student has no head to evaluate")
            into.append(torch.log_softmax(logits.float(), dim=-1).cpu())
            network.clear()
    return [torch.cat(each) for each in parts]


@torch.no_grad()
def teacher_log_probabilities(
    teacher: ViTNetwork, cell: CellFacts, examples: Examples, showing: Showing
) -> Tensor | None:
    """Give the teacher's (N, K) log-probabilities of the data set's classes; None if its head lacks one."""
    if cell.teacher_classes is None:
        return None
    index = torch.tensor(cell.teacher_classes, device=showing.device)
    parts = []
    for batch in showing.evaluated(examples, teacher=True):
        logits = teacher(batch.for_teacher, frozenset({LOGITS})).logits
        if logits is None:
            return None
        parts.append(torch.log_softmax(logits.float()[:, index], dim=-1).cpu())
        teacher.clear()
    return torch.cat(parts)


def labels_of(examples: Examples) -> Tensor:
    """Give the labels (N,) of a split; a copy, since a split's arrays are read-only."""
    return torch.tensor(examples.labels)


def split_metrics(log_probs: Tensor, examples: Examples, teacher: Tensor | None) -> dict[str, float]:
    """Measure one split; agreement and KL with the teacher where its log-probabilities are given."""
    metrics = classification(log_probs, labels_of(examples))
    return {**metrics, **(fidelity(log_probs, teacher) if teacher is not None else {})}


@torch.no_grad()
def features(network: ViTNetwork, examples: Examples, showing: Showing) -> Tensor:
    """Give the pooled features (N, D) of a split, on the CPU, of what the teacher of `showing` is shown."""
    network.eval()
    found = []
    for batch in showing.evaluated(examples, teacher=True):
        pooled = network(batch.for_teacher, frozenset({POOLED})).pooled
        if pooled is None:
            raise TypeError("the network gave no pooled features")
        found.append(pooled.float().cpu())
        network.clear()
    return torch.cat(found)


def neighbours(network: ViTNetwork, train: Examples, val: Examples, showing: Showing) -> float:
    """Measure the k-NN accuracy on val of a network's pooled features, the training images as neighbours."""
    own = Showing(showing.device, None, showing.loading)
    return knn_accuracy(
        features(network, train, own), labels_of(train), features(network, val, own), labels_of(val)
    )
