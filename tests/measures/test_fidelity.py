"""Fidelity: agreement with a teacher, and divergence from it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitkd_bench.measures import fidelity
from vitkd_bench.spec import VitkdError


def test_by_hand() -> None:
    """Two samples, one agreed on; KL from teacher to student, in nats."""
    student = torch.tensor([[0.5, 0.5], [0.25, 0.75]], dtype=torch.float64)
    teacher = torch.tensor([[0.9, 0.1], [0.6, 0.4]], dtype=torch.float64)
    expected = ((teacher * (teacher / student).log()).sum(dim=1)).mean()
    found = fidelity(student.log(), teacher.log())
    each = (teacher * (teacher / student).log()).sum(dim=1)
    errors = {"agreement_se": 0.5, "kl_se": pytest.approx(float(each.std()) / 2**0.5)}
    assert found == {"agreement": 0.5, "kl": pytest.approx(float(expected), rel=1e-12), **errors}
    one = fidelity(student[:1].log(), teacher[:1].log())
    assert set(one) == {"agreement", "kl"}


@given(st.integers(1, 40), st.integers(2, 12), st.integers(0, 1000), st.floats(0.1, 5))
def test_laws(samples: int, classes: int, seed: int, scale: float) -> None:
    """Zero and one against itself, never negative, blind to a constant, equal to torch's own KL."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, samples, classes, generator=generator, dtype=torch.float64) * scale
    itself = fidelity(student, student)
    assert (itself["agreement"], itself["kl"]) == (1.0, 0.0)
    assert {itself.get(name, 0.0) for name in ("agreement_se", "kl_se")} == {0.0}
    found = fidelity(student, teacher)
    kl = torch.nn.functional.kl_div(
        student.log_softmax(1), teacher.log_softmax(1), reduction="batchmean", log_target=True
    )
    assert found["kl"] == pytest.approx(float(kl), abs=1e-9)
    assert found["kl"] >= 0
    assert fidelity(student + 3, teacher - 1) == pytest.approx(found)
    assert fidelity(teacher, student)["agreement"] == found["agreement"]


def test_mean_is_over_samples() -> None:
    """The result of a whole split is not a mean of unequal batches' means."""
    student, teacher = torch.randn(2, 10, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    parts = [fidelity(student[:7], teacher[:7])["kl"], fidelity(student[7:], teacher[7:])["kl"]]
    assert fidelity(student, teacher)["kl"] == pytest.approx(0.7 * parts[0] + 0.3 * parts[1])


def test_other_classes_are_refused() -> None:
    """A teacher of other classes cannot be compared."""
    with pytest.raises(VitkdError, match=r"student \(3, 4\), teacher \(3, 5\)"):
        fidelity(torch.zeros(3, 4), torch.zeros(3, 5))
    with pytest.raises(VitkdError, match="teacher: 1 of 3"):
        fidelity(torch.zeros(3, 2), torch.tensor([[0.0, 0.0], [torch.nan, 0.0], [0.0, 0.0]]))
