import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from torch import Tensor

from tests.methods.conftest import MakeCell, MakeMethod
from tests.methods.laws import G1_LABELS, G1_STUDENT, LossLaws, laws_of
from vitkd_bench.contracts import Batch, Features
from vitkd_bench.methods.kd import kd_loss
from vitkd_bench.methods.label_smoothing import label_smoothing_loss
from vitkd_bench.methods.none import none_loss


def labelled(**settings_: Any) -> Callable[[Tensor], Tensor]:
    """Bind settings and the first labels of G1."""
    return lambda s: label_smoothing_loss(s, G1_LABELS[: len(s)] % s.shape[1], **settings_)


test_the_laws_hold = laws_of(
    {
        "all": LossLaws(labelled(), G1_STUDENT),
        "others": LossLaws(labelled(spread="others"), G1_STUDENT),
        "two classes": LossLaws(labelled(smoothing=0.9, spread="others"), G1_STUDENT[:, :2]),
        "one class": LossLaws(labelled(spread="others"), G1_STUDENT[:, :1]),
    }
)


def drawn(*shape: int, seed: int) -> Tensor:
    """Draw logits in float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_it_has_its_golden_values() -> None:
    """On G1 with a tenth: over all classes, and over the others."""
    assert labelled(smoothing=0.1)(G1_STUDENT).item() == pytest.approx(0.9636802400, abs=1e-9)
    others = labelled(smoothing=0.1, spread="others")(G1_STUDENT)
    assert others.item() == pytest.approx(0.9853469067, abs=1e-9)


@pytest.mark.parametrize("spread", ["all", "others"])
@given(st.floats(0, 0.99), st.integers(2, 8), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_it_is_its_definition(spread: str, smoothing: float, classes: int, seed: int) -> None:
    """The cross-entropy with the target written out, whose parts sum to one."""
    logits = drawn(5, classes, seed=seed)
    labels = torch.arange(5) % classes
    target = np.full((5, classes), smoothing / (classes if spread == "all" else classes - 1))
    for row, y in zip(target, labels.tolist(), strict=True):
        row[y] = 1 - smoothing + (smoothing / classes if spread == "all" else 0)
    assert target.sum(axis=1) == pytest.approx(1)
    expected = -np.sum(target * log_softmax(logits.numpy(), axis=1)) / 5
    found = label_smoothing_loss(logits, labels, smoothing=smoothing, spread=spread)  # type: ignore[arg-type]
    assert found.item() == pytest.approx(expected, abs=1e-10)


@given(st.floats(0, 0.99), st.integers(2, 8), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_it_is_kd_from_a_uniform_teacher(smoothing: float, classes: int, seed: int) -> None:
    """(1 - e) cross-entropy + e kd from equal logits has the same gradient, and e ln K less in value."""
    logits = drawn(5, classes, seed=seed).requires_grad_()
    labels = torch.arange(5) % classes
    smoothed = label_smoothing_loss(logits, labels, smoothing=smoothing)
    distilled = (1 - smoothing) * none_loss(logits, labels)
    distilled = distilled + smoothing * kd_loss(logits, torch.zeros_like(logits))
    assert smoothed.item() - distilled.item() == pytest.approx(smoothing * math.log(classes), abs=1e-10)
    gradients = [torch.autograd.grad(value, logits)[0] for value in (smoothed, distilled)]
    torch.testing.assert_close(*gradients, atol=1e-12, rtol=0)


def test_it_takes_the_place_of_the_recipes(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod
) -> None:
    """The recipe's share does not act, the method's does, and the record says so."""
    student = Features(logits=drawn(48, 10, seed=1))
    method = make_method("label_smoothing", make_cell(None), smoothing=0.3)
    parts = [
        method.loss(student, None, dataclasses.replace(batch, label_smoothing=share))["labels"].item()
        for share in (0.0, 0.1)
    ]
    assert student.logits is not None
    assert parts == pytest.approx([none_loss(student.logits, batch.labels, 0.3).item()] * 2)
    (note,) = method.notes()
    assert note == "label smoothing 0.3 of the method takes the place of 0.1 of recipe micro_short"
