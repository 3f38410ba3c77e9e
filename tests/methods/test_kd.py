from functools import partial

from tests.methods.laws import G1_STUDENT, G1_TEACHER, LossLaws, laws_of
from vitkd_bench.methods.kd import kd_loss

test_the_laws_hold = laws_of(
    {
        "T=1": LossLaws(kd_loss, G1_STUDENT, G1_TEACHER),
        "T=4": LossLaws(partial(kd_loss, temperature=4.0), G1_STUDENT, G1_TEACHER),
        "one class": LossLaws(kd_loss, G1_STUDENT[:, :1], G1_TEACHER[:, :1]),
    }
)
