from functools import partial
from typing import Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from torch import Tensor

from tests.methods.conftest import MakeCell, MakeMethod
from tests.methods.laws import G1_LABELS, G1_STUDENT, G1_TEACHER, LossLaws, laws_of
from vitkd_bench.contracts import Batch, Features
from vitkd_bench.methods.kd import kd_loss
from vitkd_bench.methods.none import none_loss
from vitkd_bench.registry import METHODS

test_the_laws_hold = laws_of(
    {
        "T=1": LossLaws(kd_loss, G1_STUDENT, G1_TEACHER),
        "T=4": LossLaws(partial(kd_loss, temperature=4.0), G1_STUDENT, G1_TEACHER),
        "one class": LossLaws(kd_loss, G1_STUDENT[:, :1], G1_TEACHER[:, :1]),
        "reverse": LossLaws(partial(kd_loss, temperature=2.0, direction="reverse"), G1_STUDENT, G1_TEACHER),
    }
)


def drawn(*shape: int, seed: int) -> Tensor:
    """Draw logits of deviation 2 in float64."""
    return 2 * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("temperature", "golden"), [(1, 0.0962425980), (2, 0.1194688024), (4, 0.1237204517)])
def test_kd_has_its_golden_values(temperature: float, golden: float) -> None:
    """The distillation term of G1 at three temperatures."""
    assert kd_loss(G1_STUDENT, G1_TEACHER, temperature).item() == pytest.approx(golden, abs=1e-9)


def test_kd_sums_over_classes() -> None:
    """The golden total .9 kd(4) + .1 CE; dividing by the classes too would be a known error."""
    distilled = kd_loss(G1_STUDENT, G1_TEACHER, 4)
    total = 0.9 * distilled + 0.1 * none_loss(G1_STUDENT, G1_LABELS)
    assert total.item() == pytest.approx(0.2012164305, abs=1e-9)
    assert distilled.item() != pytest.approx(0.0309301129, abs=1e-3)


def test_the_soft_cross_entropy_differs_by_a_constant() -> None:
    """T^2 times the cross-entropy with the teacher has its golden value and the gradient of the KL form."""
    student = G1_STUDENT.clone().requires_grad_()
    target = F.softmax(G1_TEACHER / 4, dim=1)
    soft = -16 * (target * F.log_softmax(student / 4, dim=1)).sum(dim=1).mean()
    assert soft.item() == pytest.approx(21.9360193093, abs=1e-9)
    (of_soft,) = torch.autograd.grad(soft, student)
    (of_kl,) = torch.autograd.grad(kd_loss(student, G1_TEACHER, 4), student)
    torch.testing.assert_close(of_kl, of_soft, atol=1e-14, rtol=0)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@given(st.floats(0.3, 20), st.integers(1, 6), st.integers(1, 9), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_kd_is_its_definition(
    direction: Literal["forward", "reverse"], temperature: float, batch: int, classes: int, seed: int
) -> None:
    """T^2 times the sum of p log(p / q), the teacher first forwards and last in reverse."""
    s, t = drawn(batch, classes, seed=seed), drawn(batch, classes, seed=seed + 100)
    q, p = softmax(s.numpy() / temperature, axis=1), softmax(t.numpy() / temperature, axis=1)
    if direction == "reverse":
        p, q = q, p
    expected = temperature**2 * np.sum(p * np.log(p / q)) / batch
    assert kd_loss(s, t, temperature, direction=direction).item() == pytest.approx(expected, abs=1e-9)


@given(st.floats(0.3, 20), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_kd_gradient_is_the_published_one(temperature: float, seed: int) -> None:
    """The gradient on each row is T (p_s - p_t) / B, and rows may be shifted by constants."""
    s, t = drawn(5, 7, seed=seed).requires_grad_(), drawn(5, 7, seed=seed + 100)
    (gradient,) = torch.autograd.grad(kd_loss(s, t, temperature), s)
    expected = temperature * (F.softmax(s / temperature, 1) - F.softmax(t / temperature, 1)) / 5
    torch.testing.assert_close(gradient, expected, atol=1e-12, rtol=1e-9)
    for direction in ("forward", "reverse"):
        shifted = kd_loss(s + drawn(5, 1, seed=7), t + drawn(5, 1, seed=8), temperature, direction=direction)
        expected = kd_loss(s, t, temperature, direction=direction)
        torch.testing.assert_close(shifted, expected, atol=1e-9, rtol=1e-9)


def test_the_directions_are_two_losses(batch: Batch, make_cell: MakeCell, make_method: MakeMethod) -> None:
    """The setting reaches the loss; and forward, written out, declares nothing, so old run ids stay."""
    logits, target = drawn(48, 10, seed=1), Features(logits=drawn(48, 10, seed=2))
    found = {
        direction: make_method("kd", make_cell(), alpha=1.0, direction=direction).loss(
            Features(logits=logits), target, batch
        )["kd"]
        for direction in ("forward", "reverse")
    }
    for direction, value in found.items():
        assert target.logits is not None
        swapped = (logits, target.logits) if direction == "forward" else (target.logits, logits)
        torch.testing.assert_close(value, kd_loss(*swapped))
    assert found["forward"].item() != pytest.approx(found["reverse"].item(), rel=1e-3)
    kind = METHODS.get("kd").method
    assert kind.Config.parse({"direction": "forward"}).declared() == {}
    assert METHODS.get("kd").version == 1
