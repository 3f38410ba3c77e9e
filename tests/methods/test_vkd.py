from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.methods.conftest import MakeCell, MakeMethod, as_teacher, network
from tests.methods.laws import G2_STUDENT, G2_TEACHER, LossLaws, laws_of
from tests.methods.two_steps import student_gradients, two_steps
from vitkd_bench.contracts import Batch, Method
from vitkd_bench.methods.vkd import OrthogonalProjection, vkd_loss
from vitkd_bench.registry import METHODS, TEACHERS
from vitkd_bench.spec import SIZES, ResolvedDataset


def double(*shape: int, seed: int = 0) -> Tensor:
    """Draw a float64 tensor."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# P = [I; 0] of G2: the student's two channels, and a third that is empty
PROJECTED = nn.functional.pad(G2_STUDENT, (0, 1))

test_the_laws_hold = laws_of(
    {
        # the floor lies where the student equals the normalised teacher
        "normalised": LossLaws(vkd_loss, PROJECTED, G2_TEACHER, floor=None),
        "plain": LossLaws(
            partial(vkd_loss, target_norm=False), double(3, 4), double(3, 4, seed=1), floor_atol=0
        ),
    }
)


def columns(method: Method) -> Tensor:
    """The projector's matrix (teacher's width, student's width), in float64."""
    assert isinstance(method, OrthogonalProjection)
    return method.projector(torch.eye(method.cell.student.size.width)).T.detach().double()


def test_the_golden_value() -> None:
    """G2 through P = [I; 0], layer norm with eps 1e-5."""
    assert vkd_loss(PROJECTED, G2_TEACHER).item() == pytest.approx(0.4769799035, abs=1e-9)


def test_against_numpy() -> None:
    """Half a square below a difference of one, the difference less a half above, after the norm."""
    s, t = 2 * double(5, 4), double(5, 4, seed=1)
    target = t.numpy()
    target = (target - target.mean(1, keepdims=True)) / np.sqrt(target.var(1, keepdims=True) + 1e-5)
    apart = np.abs(s.numpy() - target)
    expected = np.where(apart < 1, apart**2 / 2, apart - 0.5).mean()
    assert vkd_loss(s, t).item() == pytest.approx(expected, abs=1e-12)
    assert (apart < 1).any()
    assert (apart > 1).any()


@given(st.floats(0.5, 50), st.floats(-9, 9), st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_scale_and_shift_of_a_teachers_vector_are_forgotten(scale: float, shift: float, seed: int) -> None:
    """Any a t + b, another one for each sample, gives the same loss; without the norm it does not."""
    s, t = double(2, 6, seed=seed), double(2, 6, seed=seed + 1000)
    changed = torch.stack([scale * t[0] + shift, t[1]])
    assert vkd_loss(s, changed).item() == pytest.approx(vkd_loss(s, t).item(), abs=1e-3)
    if scale > 2:
        plain = vkd_loss(s, t, target_norm=False).item()
        assert vkd_loss(s, changed, target_norm=False).item() != pytest.approx(plain, abs=1e-3)


def test_columns_stay_orthonormal(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """Through two large steps P^T P is the identity to float32's digits, and P has moved."""
    small = TEACHERS.get("micro/deit").architecture.with_(size=SIZES["micro_small"])
    cell = make_cell("micro/deit", small)
    assert cell.teacher_architecture is not None
    student = network(small, digits)
    teacher = as_teacher(network(cell.teacher_architecture, digits, seed=4))
    method = make_method("vkd", cell, weight=100.0)
    before = columns(method)
    steps = two_steps(method, student, teacher, batch)
    after = columns(method)
    assert before.shape == (48, 32)
    assert steps.moved
    assert not steps.still
    assert (after - before).abs().max() > 1e-3
    for matrix in (before, after):
        torch.testing.assert_close(matrix.T @ matrix, torch.eye(32).double(), atol=1e-5, rtol=0)
    vectors = torch.randn(5, 32, dtype=torch.float64)
    projected = vectors @ after.T
    torch.testing.assert_close(projected @ projected.T, vectors @ vectors.T, atol=1e-4, rtol=0)


def test_it_survives_a_checkpoint(make_cell: MakeCell, make_method: MakeMethod) -> None:
    """The projector's state in another object of the method gives the same projection."""
    cell = make_cell("micro/deit", "standard")
    one, other = (make_method("vkd", cell) for _ in range(2))
    assert isinstance(one, nn.Module)
    assert isinstance(other, nn.Module)
    assert not torch.equal(columns(one), columns(other))
    other.load_state_dict(one.state_dict())
    assert torch.equal(columns(one), columns(other))


def test_it_reads_pooled_features_alone(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """The teacher's last tokens without its head; every block of the student is reached, its head is not."""
    cell = make_cell("micro/mae", "standard")
    assert cell.teacher_architecture is not None
    student = network(cell.student, digits)
    teacher = as_teacher(network(cell.teacher_architecture, digits, seed=4))
    method = make_method("vkd", cell)
    assert method.teacher_taps() == {"tokens/3"}
    seen = teacher(batch.pixels, method.teacher_taps())
    found = student_gradients(method.step(student, seen, batch)["vkd"], student)
    assert not any(name.startswith("head") for name in found)
    assert all(found[f"blocks.{i}.mlp.fc2.weight"] > 0 for i in range(4))


def test_a_wider_student_is_refused(make_cell: MakeCell) -> None:
    """64 orthonormal columns do not fit into 48 dimensions."""
    wide = TEACHERS.get("micro/deit").architecture.with_(size=SIZES["micro_large"])
    entry = METHODS.get("vkd")
    why = entry.refuses(entry.method.Config(), make_cell("micro/deit", wide))
    assert str(why).startswith("widths: student 64, teacher 48; vkd has no orthonormal columns")
