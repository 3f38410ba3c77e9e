from functools import partial

import torch

from tests.methods.conftest import MakeCell
from tests.methods.laws import G1_STUDENT, G1_TEACHER, LossLaws, laws_of
from vitkd_bench.contracts import TeacherRun
from vitkd_bench.methods.tfkd_self import tfkd_self_loss
from vitkd_bench.registry import METHODS

test_the_laws_hold = laws_of(
    {
        "T=20": LossLaws(tfkd_self_loss, G1_STUDENT, G1_TEACHER),
        "T=1": LossLaws(partial(tfkd_self_loss, temperature=1.0), G1_STUDENT, G1_TEACHER),
        "one class": LossLaws(tfkd_self_loss, G1_STUDENT[:, :1], G1_TEACHER[:, :1]),
    }
)


def test_it_is_the_divergence_by_hand() -> None:
    """T^2 sum p_t (log p_t - log p_s), by probabilities written out."""
    for temperature in (1.0, 7.0):
        t, s = (torch.softmax(x / temperature, 1) for x in (G1_TEACHER, G1_STUDENT))
        expected = temperature**2 * sum(
            float(t[b, k] * (t[b, k] / s[b, k]).log()) for b in range(3) for k in range(4)
        )
        value = tfkd_self_loss(G1_STUDENT, G1_TEACHER, temperature)
        torch.testing.assert_close(value.item(), expected / 3, atol=1e-12, rtol=1e-9)


def test_its_teacher_is_the_student_trained_from_labels(make_cell: MakeCell) -> None:
    """The cell's teacher plays no part."""
    kind = METHODS.get("tfkd_self").method
    assert kind.teacher_run(kind.Config(), make_cell("micro/deit", "standard")) == TeacherRun("none")
    assert not METHODS.get("tfkd_self").reads_teacher
