import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from torch import Tensor

from tests.methods.conftest import MakeCell, MakeMethod
from tests.methods.laws import G1_LABELS, G1_STUDENT, G1_TEACHER, LossLaws, laws_of
from vitkd_bench.contracts import Batch, Features
from vitkd_bench.methods.hard import hard_loss
from vitkd_bench.methods.none import none_loss

test_the_laws_hold = laws_of(
    {
        # no floor at equality: a student surer than its teacher loses less
        "plain": LossLaws(hard_loss, G1_STUDENT, G1_TEACHER, floor=None),
        "one class": LossLaws(hard_loss, G1_STUDENT[:, :1], G1_TEACHER[:, :1]),
    }
)


def drawn(*shape: int, seed: int) -> Tensor:
    """Draw logits in float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_it_has_its_golden_value() -> None:
    """Half the labels' cross-entropy and half that of the teacher's classes, on G1."""
    total = (none_loss(G1_STUDENT, G1_LABELS) + hard_loss(G1_STUDENT, G1_TEACHER)) / 2
    assert total.item() == pytest.approx(0.8486802400, abs=1e-9)


@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 99), st.floats(0.01, 100))
@settings(max_examples=30, deadline=None)
def test_only_the_teachers_class_counts(batch: int, classes: int, seed: int, scale: float) -> None:
    """The mean of logsumexp less the logit of the teacher's class, however sure the teacher is."""
    s, t = drawn(batch, classes, seed=seed), drawn(batch, classes, seed=seed + 100)
    found = [logsumexp(row) - row[np.argmax(other)] for row, other in zip(s.numpy(), t.numpy(), strict=True)]
    assert hard_loss(s, t).item() == pytest.approx(np.mean(found), abs=1e-12)
    assert hard_loss(s, scale * t + 1).item() == pytest.approx(np.mean(found), abs=1e-12)


def test_a_shared_maximum_falls_to_the_first_class() -> None:
    """Of equal logits the first counts."""
    value = hard_loss(G1_STUDENT[:1], torch.tensor([[0.0, 2, 2, 1]]))
    torch.testing.assert_close(value, F.cross_entropy(G1_STUDENT[:1], torch.tensor([1])))


def test_labels_alone_are_smoothed(batch: Batch, make_cell: MakeCell, make_method: MakeMethod) -> None:
    """With alpha .3 the labels keep .7 with the recipe's smoothing; the teacher's classes have none."""
    logits, target = drawn(48, 10, seed=1), drawn(48, 10, seed=2)
    parts = make_method("hard", make_cell(), alpha=0.3).loss(
        Features(logits=logits), Features(logits=target), batch
    )
    assert batch.label_smoothing == 0.1
    labels = F.cross_entropy(logits, batch.labels, label_smoothing=0.1)
    torch.testing.assert_close(parts["labels"], 0.7 * labels)
    torch.testing.assert_close(parts["hard"], 0.3 * F.cross_entropy(logits, target.argmax(dim=1)))
