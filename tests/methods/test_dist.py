import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from torch import Tensor

from tests.methods.conftest import MakeCell, MakeMethod
from tests.methods.laws import G1_STUDENT, G1_TEACHER, LossLaws, laws_of
from vitkd_bench.contracts import Batch, CellFacts, Features
from vitkd_bench.methods.dist import dist_loss
from vitkd_bench.registry import METHODS, RECIPES

# the guard of the division, 1e-8, leaves a correlation of equals short of 1 by that over their variances
test_the_laws_hold = laws_of(
    {
        "T=1": LossLaws(dist_loss, G1_STUDENT, G1_TEACHER, least_batch=2, floor_atol=1e-4),
        "T=4": LossLaws(
            partial(dist_loss, temperature=4.0), G1_STUDENT, G1_TEACHER, least_batch=2, floor_atol=1e-4
        ),
        # one probability of 1 a sample: constant on both sides, so nothing correlates
        "one class": LossLaws(dist_loss, G1_STUDENT[:, :1], G1_TEACHER[:, :1], least_batch=2, floor=2.0),
    }
)


def drawn(*shape: int, seed: int) -> Tensor:
    """Draw logits in float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_it_has_its_golden_values() -> None:
    """On G1 each part; the published form at temperature 4 is 16 times ours."""
    inter, intra = (dist_loss(G1_STUDENT, G1_TEACHER, inter=a, intra=1 - a).item() for a in (1.0, 0.0))
    assert inter == pytest.approx(0.1119273513, abs=1e-9)
    assert intra == pytest.approx(0.3024886880, abs=1e-9)
    warm = dist_loss(G1_STUDENT, G1_TEACHER, temperature=4.0).item()
    assert 16 * warm == pytest.approx(8.2920860703, abs=1e-9)


@given(st.floats(0.5, 5), st.integers(3, 7), st.integers(2, 8), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_it_is_its_definition(temperature: float, batch: int, classes: int, seed: int) -> None:
    """Pearson's correlations of numpy over rows and over columns."""
    s, t = drawn(batch, classes, seed=seed), drawn(batch, classes, seed=seed + 100)
    q, p = (softmax(z.numpy() / temperature, axis=1) for z in (s, t))
    rows = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(q, p, strict=True)])
    columns = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(q.T, p.T, strict=True)])
    expected = 2 * (1 - rows) + 3 * (1 - columns)
    value = dist_loss(s, t, inter=2.0, intra=3.0, temperature=temperature).item()
    assert value == pytest.approx(expected, abs=1e-4)


def mixed(logits: Tensor, share: Tensor) -> Tensor:
    """Give logits whose probabilities are `share` of these and otherwise uniform: an affine map of them."""
    probabilities = torch.softmax(logits, dim=1)
    return (share * probabilities + (1 - share) / logits.shape[1]).log()


@given(st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_it_is_blind_to_affine_maps_of_probabilities_and_not_of_logits(seed: int) -> None:
    """The inter part to one a row, the intra part to one of all; a row's own map moves the intra part."""
    s, t = drawn(6, 5, seed=seed), drawn(6, 5, seed=seed + 100)
    inter, intra = partial(dist_loss, intra=0.0), partial(dist_loss, inter=0.0)
    a_row = torch.linspace(0.2, 0.9, 6, dtype=torch.float64).unsqueeze(1)
    everywhere = torch.full((6, 1), 0.3, dtype=torch.float64)
    assert inter(mixed(s, a_row), t).item() == pytest.approx(inter(s, t).item(), abs=1e-5)
    assert intra(mixed(s, everywhere), t).item() == pytest.approx(intra(s, t).item(), abs=1e-5)
    assert abs(intra(mixed(s, a_row), t).item() - intra(s, t).item()) > 1e-4
    assert abs(inter(3 * s, t).item() - inter(s, t).item()) > 1e-5


def test_a_student_of_equal_logits_has_finite_gradients() -> None:
    """A constant row or column counts as uncorrelated: loss 2, and a gradient that is a number."""
    student = torch.zeros(4, 5, requires_grad=True)
    value = dist_loss(student, drawn(4, 5, seed=1).float())
    assert value.item() == pytest.approx(2)
    (gradient,) = torch.autograd.grad(value, student)
    assert torch.isfinite(gradient).all()


def test_a_batch_of_two_teaches_no_intra_relation() -> None:
    """Between two samples every correlation is 1 or -1, so the intra part has no gradient."""
    student = drawn(2, 5, seed=1).requires_grad_()
    (gradient,) = torch.autograd.grad(dist_loss(student, drawn(2, 5, seed=2), inter=0.0), student)
    assert gradient.abs().max() < 1e-5


def test_small_batches_are_refused(make_cell: MakeCell) -> None:
    """A recipe of batches of two is refused in one sentence, unless the intra part is off."""
    entry, recipe = METHODS.get("dist"), RECIPES.get("micro_short")
    config, bare = entry.method.Config, make_cell()

    def cell(size: int) -> CellFacts:
        return dataclasses.replace(bare, recipe=recipe.model_copy(update={"batch_size": size}))

    assert entry.refuses(config(), cell(3)) is None
    assert entry.refuses(config.parse({"intra": 0}), cell(2)) is None
    assert "takes three samples; recipe micro_short has batches of 2" in str(entry.refuses(config(), cell(2)))
    assert "has batches of one" in str(entry.refuses(config(), cell(1)))


def test_settings_reach_the_loss(batch: Batch, make_cell: MakeCell, make_method: MakeMethod) -> None:
    """The weight is of both parts, each has its own, and the temperature is no weight."""
    s, t = drawn(48, 10, seed=1), drawn(48, 10, seed=2)
    method = make_method("dist", make_cell(), weight=5.0, inter=2.0, intra=3.0, temperature=4.0)
    parts = method.loss(Features(logits=s), Features(logits=t), batch)
    expected = 5 * dist_loss(s, t, inter=2.0, intra=3.0, temperature=4.0)
    torch.testing.assert_close(parts["dist"], expected)
    assert set(parts) == {"labels", "dist"}
