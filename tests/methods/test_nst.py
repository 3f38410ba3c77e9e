import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.methods.laws import G3_STUDENT, G3_TEACHER, LossLaws, laws_of
from vitkd_bench.methods.nst import nst_loss


def double(*shape: int, seed: int = 0) -> Tensor:
    """Draw a float64 tensor."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


test_the_laws_hold = laws_of(
    {
        "equal": LossLaws(nst_loss, G3_STUDENT, G3_TEACHER),
        "other width and grid": LossLaws(nst_loss, double(2, 16, 3), double(2, 4, 5, seed=1)),
    }
)


def by_kernels(student: Tensor, teacher: Tensor) -> float:
    """The discrepancy as it is defined: three means of (x.y)^2 over pairs of channels, image by image."""
    values = []
    for s, t in zip(student, teacher, strict=True):
        ours = [channel / channel.norm() for channel in s.T]
        theirs = [channel / channel.norm() for channel in t.T]

        def mean(a: list[Tensor], b: list[Tensor]) -> float:
            return sum(torch.dot(x, y).item() ** 2 for x in a for y in b) / (len(a) * len(b))

        values.append(mean(theirs, theirs) + mean(ours, ours) - 2 * mean(ours, theirs))
    return sum(values) / len(values)


@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_it_is_the_discrepancy_of_kernels(ours: int, theirs: int, seed: int) -> None:
    """Any two widths: the distance of mean outer products is the published sum of kernels."""
    s, t = double(2, 9, ours, seed=seed), double(2, 9, theirs, seed=seed + 1000)
    assert nst_loss(s, t).item() == pytest.approx(by_kernels(s, t), abs=1e-12)


def test_a_value_by_hand() -> None:
    """One channel a side on two patches: (1, 0) against (1, 1) / sqrt 2 is 1 + 1 - 2 x 1/2 = 1."""
    student = torch.tensor([[[2.0], [0.0]]], dtype=torch.float64)
    teacher = torch.tensor([[[3.0], [3.0]]], dtype=torch.float64)
    assert by_kernels(student, teacher) == pytest.approx(1.0)
    # a 2 x 2 grid: two more patches that are empty on both sides
    square = [torch.cat([x, torch.zeros_like(x)], dim=1) for x in (student, teacher)]
    assert nst_loss(*square).item() == pytest.approx(1.0, abs=1e-12)


@given(st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_channels_are_a_set(seed: int) -> None:
    """Zero where the sets of channels coincide, whatever their order, signs, sizes and repetition."""
    s = double(2, 9, 4, seed=seed)
    factors = torch.tensor([1.0, -2.0, 0.5, -1.0], dtype=torch.float64)
    order = torch.randperm(4, generator=torch.Generator().manual_seed(seed))
    same = (s * factors)[..., order].repeat(1, 1, 3)
    assert nst_loss(s, same).item() == pytest.approx(0, abs=1e-12)
    assert nst_loss(s, s.roll(1, dims=1)).item() > 1e-6


@given(st.integers(0, 999))
@settings(max_examples=15, deadline=None)
def test_places_are_paired(seed: int) -> None:
    """One permutation of places on both sides keeps the loss; it lies between 0 and 2."""
    s, t = double(2, 9, 4, seed=seed), double(2, 9, 6, seed=seed + 1000)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(seed))
    value = nst_loss(s, t).item()
    assert nst_loss(s[:, order], t[:, order]).item() == pytest.approx(value, abs=1e-12)
    assert 0 <= value <= 2


def test_an_empty_channel_is_no_trouble() -> None:
    """A channel that is zero everywhere gives a finite loss and gradient."""
    student = double(2, 4, 3)
    student[..., 1] = 0
    student.requires_grad_()
    value = nst_loss(student, double(2, 4, 3, seed=1))
    (gradient,) = torch.autograd.grad(value, student)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()
