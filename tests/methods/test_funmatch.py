import dataclasses
from functools import partial

import pytest
import torch

from tests.methods.conftest import MakeCell, MakeMethod
from tests.methods.laws import G1_STUDENT, G1_TEACHER, LossLaws, laws_of
from vitkd_bench.contracts import Batch, Features
from vitkd_bench.methods.funmatch import funmatch_loss

test_the_laws_hold = laws_of(
    {
        "T=1": LossLaws(funmatch_loss, G1_STUDENT, G1_TEACHER),
        "T=5": LossLaws(partial(funmatch_loss, temperature=5.0), G1_STUDENT, G1_TEACHER),
        "one class": LossLaws(funmatch_loss, G1_STUDENT[:, :1], G1_TEACHER[:, :1]),
    }
)


def test_it_has_its_golden_value() -> None:
    """That of kd at temperature 1 on G1."""
    assert funmatch_loss(G1_STUDENT, G1_TEACHER).item() == pytest.approx(0.0962425980, abs=1e-9)


def test_labels_play_no_part(batch: Batch, make_cell: MakeCell, make_method: MakeMethod) -> None:
    """Other labels give the same loss, which is that of kd with all of its weight on the teacher."""
    student, teacher = Features(logits=torch.randn(48, 10)), Features(logits=torch.randn(48, 10))
    method = make_method("funmatch", make_cell(), temperature=2.0)
    parts = method.loss(student, teacher, batch)
    other = method.loss(student, teacher, dataclasses.replace(batch, labels=batch.labels.roll(1)))
    assert set(parts) == {"funmatch"}
    assert torch.equal(parts["funmatch"], other["funmatch"])
    kd = make_method("kd", make_cell(), alpha=1.0, temperature=2.0).loss(student, teacher, batch)
    assert torch.equal(parts["funmatch"], kd["kd"])
