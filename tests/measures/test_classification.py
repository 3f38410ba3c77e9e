"""Classification measures: by hand, by their laws, and against torchmetrics."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vitkd_bench.measures import classification
from vitkd_bench.spec import VitkdError


def drawn(samples: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random scores that know something, and labels with every class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (samples,), generator=generator)
    labels[:classes] = torch.arange(classes)
    scores = torch.randn(samples, classes, generator=generator) * 2
    scores[torch.arange(samples), labels] += 1.5
    return scores, labels


def test_by_hand() -> None:
    """Three samples, two of them right, with probabilities that can be worked out."""
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.25, 0.5, 0.25], [0.3, 0.6, 0.1]], dtype=torch.float64)
    found = classification(probabilities.log(), torch.tensor([0, 1, 0]))
    assert found["n"] == 3
    assert found["top1"] == 2 / 3
    assert found["mean_per_class"] == pytest.approx((1 / 2 + 1) / 2)
    expected = -(torch.tensor([0.7, 0.5, 0.3]).double().log().mean())
    assert found["nll"] == pytest.approx(float(expected), rel=1e-6)
    assert found["ece"] == pytest.approx((abs(0.7 - 1) + abs(0.5 - 1) + abs(0.6 - 0)) / 3)
    assert "top5" not in found


@pytest.mark.parametrize("classes", [6, 10, 100])
def test_against_torchmetrics(classes: int) -> None:
    """Every measure equals torchmetrics' on random scores."""
    from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

    scores, labels = drawn(700, classes)
    found = classification(scores, labels)
    probabilities = scores.double().softmax(dim=1)
    expected = {
        "top1": multiclass_accuracy(probabilities, labels, classes, average="micro"),
        "top5": multiclass_accuracy(probabilities, labels, classes, average="micro", top_k=5),
        "mean_per_class": multiclass_accuracy(probabilities, labels, classes, average="macro"),
        "ece": multiclass_calibration_error(probabilities, labels, classes, n_bins=15),
        "nll": torch.nn.functional.cross_entropy(scores.double(), labels),
    }
    assert found == pytest.approx({**{k: float(v) for k, v in expected.items()}, "n": 700}, abs=1e-6)


@given(st.integers(1, 60), st.integers(2, 12), st.integers(0, 1000))
def test_laws(samples: int, classes: int, seed: int) -> None:
    """0 <= top1 <= top5 <= 1 with whole counts; nothing changes when scores move or samples change places."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(-3, 4, (samples, classes), generator=generator).double()
    labels = torch.randint(0, classes, (samples,), generator=generator)
    found = classification(scores, labels)
    assert 0 <= found["top1"] <= found.get("top5", 1.0) <= 1
    assert found["top1"] * samples == pytest.approx(round(found["top1"] * samples), abs=1e-9)
    assert ("top5" in found) is (classes >= 6)
    order = torch.randperm(samples, generator=generator)
    assert classification(scores[order] + 2.0, labels[order]) == pytest.approx(found)


@given(st.integers(2, 12), st.integers(0, 11))
def test_equal_scores_are_resolved_by_index(classes: int, label: int) -> None:
    """A constant predictor is right on class 0 alone, and in its first five on classes 0 to 4."""
    label %= classes
    found = classification(torch.zeros(4, classes), torch.full((4,), label))
    assert found["top1"] == float(label == 0)
    if classes >= 6:
        assert found["top5"] == float(label < 5)


def test_ranks_are_those_of_the_scores() -> None:
    """Two scores apart by less than the softmax can show are still told apart."""
    scores = torch.tensor([[1.0, 1.0 + 2e-16, 0.0]], dtype=torch.float64)
    assert classification(scores, torch.tensor([1]))["top1"] == 1


def test_missing_classes_do_not_count() -> None:
    """The mean over classes is over those that occur."""
    scores = torch.eye(4)[[0, 0, 2]]
    assert classification(scores, torch.tensor([0, 0, 2]))["mean_per_class"] == 1


def test_saturated_confidence_is_calibrated() -> None:
    """Right with probability one: no calibration error; wrong with probability one: an error of one."""
    scores = torch.eye(3) * 1000
    assert classification(scores, torch.arange(3))["ece"] == 0
    assert classification(scores, torch.tensor([1, 2, 0]))["ece"] == 1


def test_sums_are_in_float64() -> None:
    """Half-precision scores of many samples lose nothing in the mean."""
    scores = torch.tensor([[0.0, 1.0]], dtype=torch.float16).repeat(50_000, 1)
    found = classification(scores, torch.ones(50_000, dtype=torch.int64))
    assert found["nll"] == pytest.approx(0.31326168751822286, abs=1e-12)


@pytest.mark.parametrize(
    ("scores", "labels", "said"),
    [
        (torch.zeros(3), torch.zeros(3), "is needed"),
        (torch.zeros(0, 3), torch.zeros(0), "is needed"),
        (torch.zeros(3, 2), torch.zeros(2), r"labels for 3 samples"),
        (torch.zeros(3, 2), torch.tensor([0, 1, 2]), "for 2 classes"),
        (torch.zeros(3, 2), torch.tensor([0, 1, -1]), "for 2 classes"),
        (torch.tensor([[0.0, 1.0], [0.0, torch.nan]]), torch.zeros(2), "1 of 2 samples .* sample 1"),
        (torch.tensor([[0.0, torch.inf]]), torch.zeros(1), "not finite"),
    ],
)
def test_what_cannot_be_measured_is_refused(scores: Tensor, labels: Tensor, said: str) -> None:
    """Wrong shapes, labels that are no class and values that are not finite end in one line."""
    with pytest.raises(VitkdError, match=said):
        classification(scores, labels)
