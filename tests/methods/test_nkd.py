from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from torch import Tensor

from tests.methods.conftest import MakeCell, MakeMethod
from tests.methods.laws import G1_LABELS, G1_STUDENT, G1_TEACHER, LossLaws, laws_of
from vitkd_bench.contracts import Batch, Features
from vitkd_bench.methods.nkd import nkd_loss


def labelled(**settings_: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """Bind settings and the first labels of G1."""
    return lambda s, t: nkd_loss(s, t, G1_LABELS[: len(s)] % s.shape[1], **settings_)


# no floor at equality: both terms are cross-entropies
test_the_laws_hold = laws_of(
    {
        "ViT": LossLaws(labelled(), G1_STUDENT, G1_TEACHER, floor=None),
        "CIFAR": LossLaws(labelled(gamma=3.5, temperature=3.0), G1_STUDENT, G1_TEACHER, floor=None),
        "two classes": LossLaws(labelled(), G1_STUDENT[:, :2], G1_TEACHER[:, :2], floor=None),
        "one class": LossLaws(labelled(), G1_STUDENT[:, :1], G1_TEACHER[:, :1]),
    }
)


def drawn(*shape: int, seed: int) -> Tensor:
    """Draw logits of deviation 2 in float64."""
    return 2 * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("gamma", "golden"), [(0, 0.4071809975), (1, 1.4722836129), (1.5, 2.0048349205)])
def test_it_has_its_golden_values(gamma: float, golden: float) -> None:
    """The target term alone, and with the other classes at the weights for ViTs and convnets, on G1."""
    value = nkd_loss(G1_STUDENT, G1_TEACHER, G1_LABELS, gamma=gamma)
    assert value.item() == pytest.approx(golden, abs=1e-9)


@given(st.floats(0.5, 8), st.integers(1, 5), st.integers(2, 8), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_it_is_its_definition(temperature: float, batch: int, classes: int, seed: int) -> None:
    """Sample by sample: the target term at temperature 1, the rest renormalised at the other."""
    s, t = drawn(batch, classes, seed=seed), drawn(batch, classes, seed=seed + 100)
    labels = torch.randint(classes, (batch,), generator=torch.Generator().manual_seed(seed))
    found = []
    for row, target, y in zip(s.numpy(), t.numpy(), labels.tolist(), strict=True):
        rest = softmax(np.delete(target, y) / temperature)
        others = -np.sum(rest * log_softmax(np.delete(row, y) / temperature))
        found.append(-softmax(target)[y] * log_softmax(row)[y] + 1.5 * temperature**2 * others)
    value = nkd_loss(s, t, labels, gamma=1.5, temperature=temperature).item()
    assert value == pytest.approx(np.mean(found), abs=1e-9, rel=1e-9)


@given(st.integers(2, 8), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_at_equality_the_other_classes_pull_no_more(classes: int, seed: int) -> None:
    """There the loss is above zero; the non-target term has no gradient, the target term still has."""
    teacher = drawn(4, classes, seed=seed)
    labels = torch.arange(4) % classes
    student = teacher.clone().requires_grad_()
    target = nkd_loss(student, teacher, labels, gamma=0.0)
    both = nkd_loss(student, teacher, labels, gamma=5.0, temperature=2.0)
    assert both.item() > target.item() - 1e-12
    assert target.item() > 0
    (of_target,) = torch.autograd.grad(target, student)
    (of_both,) = torch.autograd.grad(both, student)
    torch.testing.assert_close(of_both, of_target, atol=1e-12, rtol=0)
    assert of_target.abs().max() > 0


def test_settings_reach_the_loss(batch: Batch, make_cell: MakeCell, make_method: MakeMethod) -> None:
    """Gamma and temperature are those of the settings; labels are whole beside it."""
    s, t = drawn(48, 10, seed=1), drawn(48, 10, seed=2)
    method = make_method("nkd", make_cell(), gamma=3.5, temperature=3.0)
    parts = method.loss(Features(logits=s), Features(logits=t), batch)
    torch.testing.assert_close(parts["nkd"], nkd_loss(s, t, batch.labels, gamma=3.5, temperature=3.0))
    none = make_method("none", make_cell(None)).loss(Features(logits=s), None, batch)
    torch.testing.assert_close(parts["labels"], none["labels"])
