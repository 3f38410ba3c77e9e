import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.methods.conftest import MakeCell, MakeMethod, as_teacher, network
from tests.methods.laws import G3_STUDENT, G3_TEACHER, LossLaws, laws_of
from vitkd_bench.contracts import Batch
from vitkd_bench.methods.at import at_loss
from vitkd_bench.spec import ResolvedDataset


def double(*shape: int, seed: int = 0) -> Tensor:
    """Draw a float64 tensor."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


test_the_laws_hold = laws_of(
    {
        "equal": LossLaws(at_loss, G3_STUDENT, G3_TEACHER),
        "other width and grid": LossLaws(at_loss, double(2, 16, 3), double(2, 4, 5, seed=1)),
        "one patch": LossLaws(at_loss, double(2, 1, 3), double(2, 1, 3, seed=1), floor=None),
    }
)


def test_the_golden_value() -> None:
    """G3 in the reduction of the released code."""
    assert at_loss(G3_STUDENT, G3_TEACHER).item() == pytest.approx(0.0996393005, abs=1e-9)


def test_against_loops() -> None:
    """Squares over channels, a vector of length one, differences squared: in plain Python."""
    s, t = double(3, 4, 2, seed=1), double(3, 4, 5, seed=2)

    def unit_map(tokens: list[list[float]]) -> list[float]:
        raw = [sum(x * x for x in token) / len(token) for token in tokens]
        length = math.sqrt(sum(x * x for x in raw))
        return [x / length for x in raw]

    terms = [
        (a - b) ** 2
        for ours, theirs in zip(s.tolist(), t.tolist(), strict=True)
        for a, b in zip(unit_map(ours), unit_map(theirs), strict=True)
    ]
    assert at_loss(s, t).item() == pytest.approx(sum(terms) / len(terms), abs=1e-14)


@given(st.integers(0, 999), st.floats(0.01, 100))
@settings(max_examples=25, deadline=None)
def test_what_it_forgets(seed: int, scale: float) -> None:
    """Scale of an image, order, signs and repetition of channels change nothing, on either side."""
    s, t = double(2, 9, 4, seed=seed), double(2, 9, 6, seed=seed + 1000)
    generator = torch.Generator().manual_seed(seed)
    order, signs = torch.randperm(4, generator=generator), torch.tensor([1.0, -1, -1, 1])
    per_image = torch.tensor([scale, 1.0], dtype=torch.float64).reshape(2, 1, 1)
    value = at_loss(s, t).item()
    for same in (per_image * s, s[..., order], s * signs, s.repeat(1, 1, 2)):
        assert at_loss(same, t).item() == pytest.approx(value, abs=1e-12)
    assert at_loss(s, per_image * t).item() == pytest.approx(value, abs=1e-12)
    assert 0 <= value <= 2 / 9


@given(st.integers(0, 999))
@settings(max_examples=15, deadline=None)
def test_what_it_sees(seed: int) -> None:
    """Places of one side moved, or one patch scaled, is another loss."""
    s, t = double(2, 9, 4, seed=seed), double(2, 9, 4, seed=seed + 1000)
    scaled = s.clone()
    scaled[:, 0] *= 5
    for other in (s.roll(1, dims=1), scaled):
        assert at_loss(other, t).item() != pytest.approx(at_loss(s, t).item(), abs=1e-9)


def test_blocks_are_summed(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """The loss over two blocks is the sum of the losses over each, as published, and not their mean."""
    cell = make_cell("micro/deit", "standard")
    assert cell.teacher_architecture is not None
    student = network(cell.student, digits)
    teacher = as_teacher(network(cell.teacher_architecture, digits, seed=4))

    def value(layers: list[int]) -> float:
        method = make_method("at", cell, layers=layers, weight=1.0)
        return method.step(student, teacher(batch.pixels, method.teacher_taps()), batch)["at"].item()

    assert value([0, 2]) == pytest.approx(value([0]) + value([2]), rel=1e-5)
