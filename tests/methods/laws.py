"""The laws that every loss of a method keeps, as one parametrised test a method.

A test file of a method names its losses and says `test_the_laws_hold = laws_of({...})`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

# G1 of the golden values: logits of three samples and four classes, and their labels
G1_STUDENT = torch.tensor(
    [[1, 0.5, -0.5, 0], [0.2, -0.3, 0.9, -0.6], [-1, 0.4, 0.1, 0.7]], dtype=torch.float64
)
G1_TEACHER = torch.tensor(
    [[2, 0, -1, 0.5], [-0.4, 0.1, 1.5, -0.2], [-0.5, 0.3, 0.8, 1.2]], dtype=torch.float64
)
G1_LABELS = torch.tensor([0, 2, 1])
# G2: pooled features of three samples, of width 2 and 3
G2_STUDENT = torch.tensor([[1, 0], [0, 2], [1, 1]], dtype=torch.float64)
G2_TEACHER = torch.tensor([[1, 0, 0], [0, 1, 1], [2, 0, 1]], dtype=torch.float64)
# G3: two samples of four tokens of width 2
G3_STUDENT = torch.tensor(
    [[[1, 0], [0, 1], [1, 1], [2, -1]], [[0, 1], [1, -1], [-1, 0], [1, 2]]], dtype=torch.float64
)
G3_TEACHER = torch.tensor(
    [[[1, 1], [0, 2], [1, 0], [1, -1]], [[1, 1], [0, -1], [-1, 1], [2, 1]]], dtype=torch.float64
)


@dataclass(frozen=True)
class LossLaws:
    """One loss under fixed settings, and what is claimed of it.

    `loss(student, teacher)` takes one tensor of each side, batch first, and gives a scalar; further arguments
    (labels, projectors) are bound by the test. `teacher` is None for a loss without one. `floor` is its value
    where the student equals the teacher (None: no such claim), `least_batch` the smallest batch that it is
    defined for (a smaller one raises ValueError), `scale` by how much inputs are multiplied to be extreme.
    `half` turns off the law of half precision, with the reason.
    """

    loss: Callable[..., Tensor]
    student: Tensor
    teacher: Tensor | None = None
    floor: Callable[[Tensor], float] | float | None = 0.0
    least_batch: int = 1
    scale: float = 1e4
    half: str = ""
    floor_atol: float = 1e-9

    def value(self, student: Tensor, teacher: Tensor | None = None) -> Tensor:
        """Give the loss of these tensors, the case's own teacher where none is given."""
        other = self.teacher if teacher is None else teacher
        return self.loss(student) if other is None else self.loss(student, other)


def _gradients(case: LossLaws) -> None:
    student = case.student.clone().requires_grad_()
    assert torch.autograd.gradcheck(case.value, (student,))


def _teacher_detached(case: LossLaws) -> None:
    if case.teacher is not None:
        student, teacher = case.student.clone().requires_grad_(), case.teacher.clone().requires_grad_()
        case.value(student, teacher).backward()
        assert teacher.grad is None


def _scalar(case: LossLaws) -> None:
    value = case.value(case.student)
    assert value.ndim == 0
    assert torch.isfinite(value)


def _floor(case: LossLaws) -> None:
    floor, teacher = case.floor, case.teacher
    if floor is None or teacher is None or case.student.shape != teacher.shape:
        return
    equal = case.value(teacher.clone(), teacher).item()
    least = floor(teacher) if callable(floor) else floor
    assert equal == pytest.approx(least, abs=case.floor_atol)
    assert case.value(case.student).item() > least - 1e-12


def _strides(case: LossLaws) -> None:
    def strided(tensor: Tensor) -> Tensor:
        return tensor.transpose(0, -1).contiguous().transpose(0, -1)

    teacher = None if case.teacher is None else strided(case.teacher)
    torch.testing.assert_close(case.value(strided(case.student), teacher), case.value(case.student))


def _half(case: LossLaws) -> None:
    if case.half:
        return
    for kind in (torch.float16, torch.bfloat16):
        student = case.student.to(kind).requires_grad_()
        teacher = None if case.teacher is None else case.teacher.to(kind)
        value = case.value(student, teacher)
        exact = case.value(student.detach().double(), None if teacher is None else teacher.double())
        torch.testing.assert_close(value.double(), exact, rtol=0.05, atol=0.05)
        (gradient,) = torch.autograd.grad(value.float(), student)
        assert torch.isfinite(gradient).all()


def _batch_of_one(case: LossLaws) -> None:
    student = case.student[:1].clone().requires_grad_()
    teacher = None if case.teacher is None else case.teacher[:1]
    if case.least_batch > 1:
        with pytest.raises(ValueError, match="batch"):
            case.value(student, teacher)
        return
    value = case.value(student, teacher)
    (gradient,) = torch.autograd.grad(value, student, allow_unused=True, materialize_grads=True)
    assert torch.isfinite(gradient).all()


def _extreme(case: LossLaws) -> None:
    for sign in (1, -1):
        student = (sign * case.scale * case.student).float().requires_grad_()
        teacher = None if case.teacher is None else (case.scale * case.teacher).float()
        value = case.value(student, teacher)
        (gradient,) = torch.autograd.grad(value, student)
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()


LAWS: dict[str, Callable[[LossLaws], None]] = {
    "a finite scalar": _scalar,
    "gradients are those of finite differences": _gradients,
    "the teacher gets no gradient": _teacher_detached,
    "its floor at equality": _floor,
    "any strides": _strides,
    "half precision": _half,
    "a batch of one": _batch_of_one,
    "extreme inputs": _extreme,
}


def laws_of(cases: dict[str, LossLaws]) -> Any:
    """Make the test that holds every case to every law."""

    @pytest.mark.parametrize("law", LAWS)
    @pytest.mark.parametrize("case", cases)
    def test_the_laws_hold(case: str, law: str) -> None:
        """A scalar of right gradients and floor, at any strides, precision, batch and size of input."""
        torch.manual_seed(0)
        LAWS[law](cases[case])

    return test_the_laws_hold
