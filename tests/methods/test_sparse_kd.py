from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.methods.conftest import MakeCell
from tests.methods.laws import G1_STUDENT, G1_TEACHER, LossLaws, laws_of
from vitkd_bench.contracts import TeacherRun
from vitkd_bench.methods.ban import ban_loss
from vitkd_bench.methods.sparse_kd import sparse_kd_loss
from vitkd_bench.methods.stored_outputs import largest, packed, spread
from vitkd_bench.registry import METHODS

sizes = st.integers(2, 12)
seeds = st.integers(0, 2**32 - 1)


def entropy(logits: Tensor) -> float:
    """Mean entropy of the rows, in nats."""
    return torch.distributions.Categorical(logits=logits).entropy().mean().item()


test_the_laws_hold = laws_of(
    {
        # a student that is the teacher is not the target, which is flatter: no floor at equality
        "two kept": LossLaws(partial(sparse_kd_loss, k=2), G1_STUDENT, G1_TEACHER, floor=None),
        "all kept": LossLaws(partial(sparse_kd_loss, k=4), G1_STUDENT, G1_TEACHER, floor=entropy),
        "one class": LossLaws(sparse_kd_loss, G1_STUDENT[:, :1], G1_TEACHER[:, :1]),
    }
)


def plain(student: np.ndarray, teacher: np.ndarray, k: int) -> float:
    """The loss by loops: the k largest stay, the others share what is left."""
    total = 0.0
    for own, other in zip(student, teacher, strict=True):
        target = np.exp(other - other.max())
        target /= target.sum()
        order = sorted(range(len(target)), key=lambda i: -target[i])
        rest = order[k:]
        left = 1 - sum(target[i] for i in order[:k])
        for i in rest:
            target[i] = left / len(rest)
        logs = own - own.max() - np.log(np.exp(own - own.max()).sum())
        total -= sum(target[i] * logs[i] for i in range(len(target)))
    return total / len(student)


def test_it_has_its_golden_value() -> None:
    """Two kept of four on the golden tensors."""
    assert sparse_kd_loss(G1_STUDENT, G1_TEACHER, k=2).item() == pytest.approx(1.1812083269, abs=1e-9)


@given(count=sizes, k=sizes, seed=seeds)
def test_it_is_the_loss_by_loops(count: int, k: int, seed: int) -> None:
    """For any number of classes and of kept ones, also where more are asked for than there are."""
    draw = torch.Generator().manual_seed(seed)
    student, teacher = (3 * torch.randn(4, count, generator=draw, dtype=torch.float64) for _ in range(2))
    expected = plain(student.numpy(), teacher.numpy(), k)
    assert sparse_kd_loss(student, teacher, k=k).item() == pytest.approx(expected, abs=1e-10)
    if k >= count:
        assert sparse_kd_loss(student, teacher, k=k).item() == pytest.approx(
            ban_loss(student, teacher).item(), abs=1e-10
        )


@given(count=sizes, seed=seeds)
def test_what_is_not_kept_plays_no_part(count: int, seed: int) -> None:
    """Exchanging the teacher's probabilities beyond the kept ones changes nothing; those kept do matter."""
    draw = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(3, count + 2, generator=draw, dtype=torch.float64) for _ in range(2))
    order = teacher.argsort(dim=1, descending=True)
    moved = teacher.scatter(1, order[:, 1:], teacher.gather(1, order[:, 1:].flip(1)))
    one, other = (sparse_kd_loss(student, each, k=1).item() for each in (teacher, moved))
    assert one == pytest.approx(other, abs=1e-12)
    assert abs(sparse_kd_loss(student, teacher.flip(1), k=1).item() - one) > 1e-12


@given(count=sizes, k=sizes, seed=seeds)
def test_what_is_stored_sums_to_one_again(count: int, k: int, seed: int) -> None:
    """Spread out again, stored probabilities are none below 0, sum to 1 and are the teacher's to float16."""
    logits = 4 * torch.randn(5, count, generator=torch.Generator().manual_seed(seed))
    stored, classes = packed(*largest(logits, k), count)
    assert (stored.dtype, classes.dtype) == (torch.float16, torch.int16)
    assert stored.shape == classes.shape == (5, min(k, count))
    target = spread(stored, classes, count)
    assert (target >= 0).all()
    torch.testing.assert_close(target.sum(dim=1), torch.ones(5), atol=2e-3, rtol=0)
    exact = logits.softmax(dim=1).gather(1, classes.long())
    torch.testing.assert_close(target.gather(1, classes.long()), exact, atol=1e-7, rtol=6e-4)


@pytest.mark.parametrize(("count", "index"), [(32_767, torch.int16), (32_768, torch.int32)])
def test_an_index_has_room_for_every_class(count: int, index: torch.dtype) -> None:
    """The last class is found again on both sides of the limit of two bytes."""
    logits = torch.zeros(2, count)
    logits[:, -1] = 5.0
    _, classes = packed(*largest(logits, 1), count)
    assert classes.dtype == index
    assert classes.tolist() == [[count - 1]] * 2


def test_students_of_one_teacher_share_what_is_stored(make_cell: MakeCell) -> None:
    """The store does not depend on the student, and has the number of kept ones that is asked for."""
    kind = METHODS.get("sparse_kd").method
    runs = [
        kind.teacher_run(kind.Config.parse({"k": 3}), make_cell("micro/deit", s))
        for s in ("standard", "native")
    ]
    teacher = make_cell("micro/deit").teacher_architecture
    assert runs[0] == runs[1] == TeacherRun("stored_outputs", {"k": 3}, student=teacher, reads="cell")
