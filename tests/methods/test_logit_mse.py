from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.methods.conftest import MakeCell, MakeMethod
from tests.methods.laws import G1_STUDENT, G1_TEACHER, LossLaws, laws_of
from vitkd_bench.contracts import Batch, Features
from vitkd_bench.methods.kd import kd_loss
from vitkd_bench.methods.logit_mse import logit_mse_loss

centred_loss = partial(logit_mse_loss, centre=True)
test_the_laws_hold = laws_of(
    {
        "plain": LossLaws(logit_mse_loss, G1_STUDENT, G1_TEACHER),
        "centred": LossLaws(centred_loss, G1_STUDENT, G1_TEACHER),
        "one class": LossLaws(logit_mse_loss, G1_STUDENT[:, :1], G1_TEACHER[:, :1]),
        "one class, centred": LossLaws(centred_loss, G1_STUDENT[:, :1], G1_TEACHER[:, :1]),
    }
)


def drawn(*shape: int, seed: int) -> Tensor:
    """Draw logits in float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_it_has_its_golden_values() -> None:
    """On G1 the mean, the paper's half sum a sample (K / 2 times the mean), and half the centred mean."""
    plain = logit_mse_loss(G1_STUDENT, G1_TEACHER).item()
    assert plain == pytest.approx(0.3158333333, abs=1e-9)
    assert plain * 4 / 2 == pytest.approx(0.6316666667, abs=1e-9)
    assert centred_loss(G1_STUDENT, G1_TEACHER).item() / 2 == pytest.approx(0.1219791667, abs=1e-9)


@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_it_is_its_definition(batch: int, classes: int, seed: int) -> None:
    """The mean squared difference; centred, its variance within rows, whatever the rows' offsets."""
    s, t = drawn(batch, classes, seed=seed), drawn(batch, classes, seed=seed + 100)
    difference = s.numpy() - t.numpy()
    assert logit_mse_loss(s, t).item() == pytest.approx(np.mean(difference**2), abs=1e-12)
    spread = np.mean([np.var(row) for row in difference])
    offsets = drawn(batch, 1, seed=7)
    assert centred_loss(s, t).item() == pytest.approx(spread, abs=1e-12)
    assert centred_loss(s + offsets, t).item() == pytest.approx(spread, abs=1e-12)


def test_the_plain_form_sees_a_shift() -> None:
    """A constant added to a row changes the plain form and no probability."""
    shifted = logit_mse_loss(G1_TEACHER + 2, G1_TEACHER)
    assert shifted.item() == pytest.approx(4)
    assert centred_loss(G1_TEACHER + 2, G1_TEACHER).item() == pytest.approx(0, abs=1e-15)


def test_the_centred_form_is_kd_of_a_high_temperature() -> None:
    """T^2 KL tends to half the centred mean as T grows."""
    distilled = kd_loss(G1_STUDENT, G1_TEACHER, 1e4).item()
    # 0.1219809496 by arithmetic of 60 digits; float64 loses the last ones to the factor T^2
    assert distilled == pytest.approx(0.1219809496, abs=5e-9)
    assert distilled == pytest.approx(centred_loss(G1_STUDENT, G1_TEACHER).item() / 2, abs=3e-6)


def test_settings_reach_the_loss(batch: Batch, make_cell: MakeCell, make_method: MakeMethod) -> None:
    """The weight multiplies the term, and `centre` takes the offset of a row out of it."""
    logits = drawn(48, 10, seed=1)
    student, teacher = Features(logits=logits), Features(logits=logits + 3)
    cell = make_cell()
    plain = make_method("logit_mse", cell, weight=2.0).loss(student, teacher, batch)
    centred = make_method("logit_mse", cell, weight=2.0, centre=True).loss(student, teacher, batch)
    assert plain["logit_mse"].item() == pytest.approx(2 * 9)
    assert centred["logit_mse"].item() == pytest.approx(0, abs=1e-12)
    assert plain["labels"].item() == centred["labels"].item() > 0
