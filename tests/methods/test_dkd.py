import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from torch import Tensor

from tests.methods.conftest import MakeCell, MakeMethod
from tests.methods.laws import G1_LABELS, G1_STUDENT, G1_TEACHER, LossLaws, laws_of
from vitkd_bench.contracts import Batch, Features
from vitkd_bench.methods.dkd import dkd_loss
from vitkd_bench.methods.kd import kd_loss


def labelled(**settings_: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """Bind settings and the first labels of G1."""
    return lambda s, t: dkd_loss(s, t, G1_LABELS[: len(s)] % s.shape[1], **settings_)


test_the_laws_hold = laws_of(
    {
        "T=1": LossLaws(labelled(), G1_STUDENT, G1_TEACHER),
        "T=4": LossLaws(labelled(temperature=4.0, beta=8.0), G1_STUDENT, G1_TEACHER),
        "two classes": LossLaws(labelled(), G1_STUDENT[:, :2], G1_TEACHER[:, :2]),
        "one class": LossLaws(labelled(), G1_STUDENT[:, :1], G1_TEACHER[:, :1]),
    }
)


def drawn(*shape: int, seed: int) -> Tensor:
    """Draw logits of deviation 2 in float64."""
    return 2 * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("temperature", "alpha", "beta", "golden"),
    [
        (4, 1, 0, 0.0732340690),
        (4, 0, 1, 0.0772741988),
        (4, 1, 8, 0.6914276596),
        (1, 1, 0.5, 0.1091985659),
    ],
)
def test_it_has_its_golden_values(temperature: float, alpha: float, beta: float, golden: float) -> None:
    """The target term, the non-target term, and two published weightings, on G1."""
    value = dkd_loss(G1_STUDENT, G1_TEACHER, G1_LABELS, alpha=alpha, beta=beta, temperature=temperature)
    assert value.item() == pytest.approx(golden, abs=1e-9)


def plain_kl(p: np.ndarray, q: np.ndarray) -> float:
    """Sum p log(p / q) over two lists of probabilities."""
    return float(np.sum(p * np.log(p / q)))


@given(st.floats(0.5, 10), st.integers(1, 5), st.integers(2, 8), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_it_is_its_definition(temperature: float, batch: int, classes: int, seed: int) -> None:
    """Per sample, by lists with the label's class taken out; and with p_t as share it is plain kd."""
    s, t = drawn(batch, classes, seed=seed), drawn(batch, classes, seed=seed + 100)
    labels = torch.randint(classes, (batch,), generator=torch.Generator().manual_seed(seed))
    targets, others, rejoined = [], [], []
    for i, y in enumerate(labels.tolist()):
        q, p = softmax(s[i].numpy() / temperature), softmax(t[i].numpy() / temperature)
        targets.append(plain_kl(np.array([p[y], 1 - p[y]]), np.array([q[y], 1 - q[y]])))
        p_hat, q_hat = np.delete(p, y), np.delete(q, y)
        others.append(plain_kl(p_hat / p_hat.sum(), q_hat / q_hat.sum()))
        one = slice(i, i + 1)
        rejoined.append(
            dkd_loss(s[one], t[one], labels[one], beta=1 - float(p[y]), temperature=temperature).item()
        )
    value = dkd_loss(s, t, labels, alpha=2.0, beta=3.0, temperature=temperature).item()
    expected = temperature**2 * (2 * np.mean(targets) + 3 * np.mean(others))
    assert value == pytest.approx(expected, abs=1e-9, rel=1e-8)
    assert np.mean(rejoined) == pytest.approx(kd_loss(s, t, temperature).item(), abs=1e-9, rel=1e-8)


def test_an_underflowing_probability_stays_finite() -> None:
    """Where the student gives the label a probability of e^-300 the loss is near 300, not without end."""
    student = torch.tensor([[-300.0, 0.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[9.0, 0.0, 0.0]])
    value = dkd_loss(student, teacher, torch.tensor([0]))
    assert value.item() == pytest.approx(300, rel=0.01)
    (gradient,) = torch.autograd.grad(value, student)
    assert gradient[0, 0].item() == pytest.approx(-1, abs=0.01)


def test_logits_of_a_thousand_keep_their_target_class_out() -> None:
    """The label's class plays no part among the others, where a mask of -1000 would let it in."""
    student, teacher = torch.tensor([[3000.0, 1.0, 0.0]]), torch.tensor([[3000.0, 0.0, 1.0]])
    value = dkd_loss(student, teacher, torch.tensor([0]), alpha=0.0)
    assert value.item() == pytest.approx(np.tanh(0.5), abs=1e-4)


def test_the_term_rises_over_the_warmup(batch: Batch, make_cell: MakeCell, make_method: MakeMethod) -> None:
    """Epochs count from 1: a fifth, two fifths, and so on; without warm-up all of it from the start."""
    student, teacher = Features(logits=drawn(48, 10, seed=1)), Features(logits=drawn(48, 10, seed=2))
    at = [dataclasses.replace(batch, epoch=epoch) for epoch in (0, 1, 4, 9)]
    ramped, flat = make_method("dkd", make_cell(), warmup_epochs=5.0), make_method("dkd", make_cell())
    whole = flat.loss(student, teacher, at[0])
    found = [ramped.loss(student, teacher, each) for each in at]
    shares = [(each["dkd"] / whole["dkd"]).item() for each in found]
    assert shares == pytest.approx([0.2, 0.4, 1.0, 1.0])
    assert all(each["labels"].item() == whole["labels"].item() for each in found)
