import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from torch import Tensor

from tests.methods.conftest import MakeCell, MakeMethod
from tests.methods.laws import G1_STUDENT, G1_TEACHER, LossLaws, laws_of
from vitkd_bench.contracts import Batch, Features
from vitkd_bench.methods.prob_mse import prob_mse_loss

test_the_laws_hold = laws_of(
    {
        "plain": LossLaws(prob_mse_loss, G1_STUDENT, G1_TEACHER),
        "one class": LossLaws(prob_mse_loss, G1_STUDENT[:, :1], G1_TEACHER[:, :1]),
    }
)


def drawn(*shape: int, seed: int) -> Tensor:
    """Draw logits of deviation 3 in float64."""
    return 3 * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_it_is_its_definition_and_bounded(batch: int, classes: int, seed: int) -> None:
    """The mean over samples and classes, symmetric, blind to shifts of a row, and at most 2 / K."""
    s, t = drawn(batch, classes, seed=seed), drawn(batch, classes, seed=seed + 100)
    value = prob_mse_loss(s, t).item()
    assert value == pytest.approx(np.mean((softmax(s, axis=1) - softmax(t, axis=1)) ** 2), abs=1e-14)
    assert value == pytest.approx(prob_mse_loss(t, s).item(), abs=1e-15)
    assert value == pytest.approx(prob_mse_loss(s + 5, t + drawn(batch, 1, seed=3)).item(), abs=1e-14)
    assert 0 <= value <= 2 / classes


def test_it_is_bounded_and_flat_where_wrong() -> None:
    """A student sure of another class than its teacher meets the bound, and almost no gradient."""
    student = torch.tensor([[60.0, 0, 0, 0]], dtype=torch.float64, requires_grad=True)
    value = prob_mse_loss(student, student.detach().roll(1, dims=1))
    assert value.item() == pytest.approx(2 / 4)
    (gradient,) = torch.autograd.grad(value, student)
    assert gradient.abs().max() < 1e-20


def test_the_weight_is_that_of_the_term(batch: Batch, make_cell: MakeCell, make_method: MakeMethod) -> None:
    """The term is weighted, the label part is not."""
    student, teacher = Features(logits=drawn(48, 10, seed=1)), Features(logits=drawn(48, 10, seed=2))
    once, thrice = (
        make_method("prob_mse", make_cell(), weight=weight).loss(student, teacher, batch)
        for weight in (1.0, 3.0)
    )
    assert set(once) == {"labels", "prob_mse"}
    torch.testing.assert_close(thrice["prob_mse"], 3 * once["prob_mse"])
    torch.testing.assert_close(thrice["labels"], once["labels"])
