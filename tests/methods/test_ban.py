import pytest
import torch
from torch import Tensor

from tests.methods.conftest import MakeCell
from tests.methods.laws import G1_STUDENT, G1_TEACHER, LossLaws, laws_of
from vitkd_bench.contracts import TeacherRun
from vitkd_bench.methods.ban import ban_loss
from vitkd_bench.methods.kd import kd_loss
from vitkd_bench.registry import METHODS


def entropy(logits: Tensor) -> float:
    """Mean entropy of the rows, in nats."""
    return torch.distributions.Categorical(logits=logits).entropy().mean().item()


test_the_laws_hold = laws_of(
    {
        "plain": LossLaws(ban_loss, G1_STUDENT, G1_TEACHER, floor=entropy),
        "one class": LossLaws(ban_loss, G1_STUDENT[:, :1], G1_TEACHER[:, :1]),
    }
)


def test_it_has_its_golden_values() -> None:
    """The plain cross-entropy with soft targets on the golden tensors."""
    assert ban_loss(G1_STUDENT, G1_TEACHER).item() == pytest.approx(1.1507607870, abs=1e-9)


def test_its_gradient_is_that_of_kd() -> None:
    """Cross-entropy and KL differ by the teacher's entropy, which the student cannot move."""
    student = G1_STUDENT.clone().requires_grad_()
    (one,) = torch.autograd.grad(ban_loss(student, G1_TEACHER), student)
    (other,) = torch.autograd.grad(kd_loss(student, G1_TEACHER), student)
    torch.testing.assert_close(one, other, atol=1e-15, rtol=0)


def test_generations_follow_one_another(make_cell: MakeCell) -> None:
    """The third generation reads the second, that the first, and the first was trained from labels."""
    kind = METHODS.get("ban").method
    cell = make_cell("micro/deit", "standard")
    third = kind.teacher_run(kind.Config.parse({"generations": 3, "label_weight": 0.0}), cell)
    assert third is not None
    assert third.settings == {"generations": 2, "label_weight": 0.0}
    assert isinstance(third.reads, TeacherRun)
    assert third.reads.settings["generations"] == 1
    assert third.reads.reads == TeacherRun("none")
    assert kind.teacher_run(kind.Config(), cell) == TeacherRun("none")
