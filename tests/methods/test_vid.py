import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import Normal

from tests.methods.conftest import MakeCell, MakeMethod, as_teacher, network
from tests.methods.laws import G3_STUDENT, G3_TEACHER, LossLaws, laws_of
from tests.methods.stepping import parts_of, reaches_the_student
from tests.methods.two_steps import two_steps
from vitkd_bench.contracts import Batch
from vitkd_bench.methods.vid import GaussianGuess, vid_loss
from vitkd_bench.spec import SIZES, ResolvedDataset

FIVE = torch.full((2,), 5 - 1e-5, dtype=torch.float64).expm1().log()  # softplus of it, plus the floor, is 5


def at_five(student: Tensor, teacher: Tensor) -> Tensor:
    """The loss with every variance at 5."""
    return vid_loss(student, teacher, FIVE.to(student.dtype))


test_the_laws_hold = laws_of({"variance 5": LossLaws(at_five, G3_STUDENT, G3_TEACHER, floor=math.log(5) / 2)})


def test_vid_has_its_golden_value() -> None:
    """G3 under an identity for a mean and variances of 5."""
    assert at_five(G3_STUDENT, G3_TEACHER).item() == pytest.approx(0.8609689562, abs=1e-9)


@given(st.floats(0.01, 50), st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_vid_is_a_gaussian_likelihood(variance: float, seed: int) -> None:
    """Equal to torch's own normal density, less its constant; it falls below zero for a sure guess."""
    draw = torch.Generator().manual_seed(seed)
    s, t = (torch.randn(3, 4, 5, dtype=torch.float64, generator=draw) for _ in range(2))
    variances = variance * (0.5 + torch.rand(5, dtype=torch.float64, generator=draw))
    density = -Normal(s, variances.sqrt()).log_prob(t).mean() - math.log(2 * math.pi) / 2
    scale = (variances - 1e-5).expm1().log()
    assert vid_loss(s, t, scale).item() == pytest.approx(density.item(), abs=1e-9)
    assert vid_loss(t, t, torch.full((5,), -4.0)).item() < 0


@given(st.floats(0.1, 20))
@settings(max_examples=20, deadline=None)
def test_at_a_fixed_variance_it_is_a_squared_error(variance: float) -> None:
    """Differences of the loss are those of the mean squared error over twice the variance."""
    scale = torch.tensor(variance - 1e-5, dtype=torch.float64).expm1().log().repeat(2)
    found = vid_loss(G3_STUDENT, G3_TEACHER, scale) - vid_loss(G3_TEACHER, G3_TEACHER, scale)
    assert found.item() == pytest.approx(0.5625 / (2 * variance), abs=1e-9)


def test_the_variances_start_where_they_are_set() -> None:
    """A setting of 5 gives variances of 5, and the gradient reaches them."""
    guess = GaussianGuess(3, 4, 5.0)
    variance = nn.functional.softplus(guess.scale) + 1e-5
    torch.testing.assert_close(variance, torch.full((4,), 5.0))
    guess(torch.randn(2, 6, 3), torch.randn(2, 6, 4)).backward()
    assert guess.scale.grad is not None
    assert (guess.scale.grad != 0).all()


def test_everything_learned_moves(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """Means and variances move within two steps, for a student of another width, depth and grid."""
    size = SIZES["micro_small"]
    cell = make_cell("micro/deit", make_cell().student.with_(size=size, patch=4, registers=1))
    assert cell.teacher_architecture is not None
    student = network(cell.student, digits)
    teacher = as_teacher(network(cell.teacher_architecture, digits, seed=3))
    method = make_method("vid", cell, layers="last:2", weight=2.0)
    assert isinstance(method, nn.Module)
    assert sorted(name for name in method.state_dict() if name.endswith("scale")) == [
        "guesses.1.scale",
        "guesses.2.scale",
    ]
    assert method.teacher_taps() == {"tokens/1", "tokens/3"}
    assert reaches_the_student(parts_of(method, student, teacher, batch)["vid"], student)
    assert two_steps(method, student, teacher, batch).still == set()
