from functools import partial

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
from vitkd_bench.methods.kd import kd_loss
from vitkd_bench.methods.logit_std import logit_std_loss
from vitkd_bench.methods.none import none_loss

test_the_laws_hold = laws_of(
    {
        "T=2": LossLaws(logit_std_loss, G1_STUDENT, G1_TEACHER),
        "T=4": LossLaws(partial(logit_std_loss, temperature=4.0), G1_STUDENT, G1_TEACHER),
        "one class": LossLaws(logit_std_loss, G1_STUDENT[:, :1], G1_TEACHER[:, :1]),
    }
)


def drawn(*shape: int, seed: int) -> Tensor:
    """Draw logits in float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_it_has_its_golden_values() -> None:
    """On G1 at temperature 2, and the published total of 9 with a tenth of the labels."""
    value = logit_std_loss(G1_STUDENT, G1_TEACHER, temperature=2.0)
    assert value.item() == pytest.approx(0.0959914438, abs=1e-9)
    total = 9 * value + 0.1 * none_loss(G1_STUDENT, G1_LABELS)
    assert total.item() == pytest.approx(0.9537910183, abs=1e-9)


@given(st.floats(0.5, 6), st.integers(1, 5), st.integers(2, 8), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_it_is_its_definition(temperature: float, batch: int, classes: int, seed: int) -> None:
    """The KL of softened z-scores, with numpy's deviation over K - 1."""
    s, t = drawn(batch, classes, seed=seed), drawn(batch, classes, seed=seed + 100)
    found = []
    for row, target in zip(s.numpy(), t.numpy(), strict=True):
        q, p = (softmax((z - z.mean()) / z.std(ddof=1) / temperature) for z in (row, target))
        found.append(temperature**2 * np.sum(p * np.log(p / q)))
    value = logit_std_loss(s, t, temperature=temperature).item()
    assert value == pytest.approx(np.mean(found), abs=1e-5, rel=1e-5)


@given(st.floats(0.1, 50), st.floats(-20, 20), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_it_is_blind_to_shift_and_scale_as_kd_is_not(scale: float, shift: float, seed: int) -> None:
    """Rows may be scaled by a positive factor and shifted on either side; the sign matters."""
    s, t = drawn(5, 6, seed=seed), drawn(5, 6, seed=seed + 100)
    value = logit_std_loss(s, t).item()
    assert logit_std_loss(scale * s + shift, t).item() == pytest.approx(value, abs=1e-5)
    assert logit_std_loss(s, scale * t + shift).item() == pytest.approx(value, abs=1e-5)
    assert abs(logit_std_loss(-s, t).item() - value) > 1e-6
    assert logit_std_loss(scale * t, t).item() == pytest.approx(0, abs=1e-9)
    assert scale == pytest.approx(1, abs=0.05) or kd_loss(scale * t, t).item() > 1e-5


def test_equal_logits_have_finite_gradients() -> None:
    """A student that says nothing of a sample divides by the guard alone."""
    student = torch.zeros(3, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(logit_std_loss(student, G1_TEACHER.float()), student)
    assert torch.isfinite(gradient).all()


def test_settings_reach_the_loss(batch: Batch, make_cell: MakeCell, make_method: MakeMethod) -> None:
    """By default the published 9 and a tenth at temperature 2; each has a setting."""
    s, t = drawn(48, 10, seed=1), drawn(48, 10, seed=2)
    features = Features(logits=s), Features(logits=t)
    none = make_method("none", make_cell(None)).loss(features[0], None, batch)["labels"]
    published = make_method("logit_std", make_cell()).loss(*features, batch)
    torch.testing.assert_close(published["labels"], 0.1 * none)
    torch.testing.assert_close(published["logit_std"], 9 * logit_std_loss(s, t, temperature=2.0))
    own = make_method("logit_std", make_cell(), weight=2.0, labels=1.0, temperature=3.0)
    parts = own.loss(*features, batch)
    torch.testing.assert_close(parts["labels"], none)
    torch.testing.assert_close(parts["logit_std"], 2 * logit_std_loss(s, t, temperature=3.0))
