"""Classification measures: by hand, by their laws, and against torchmetrics."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vitkd_bench.measures import arrays, classification
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
    squared = (0.09 + 0.04 + 0.01) + (0.0625 + 0.25 + 0.0625) + (0.49 + 0.36 + 0.01)
    assert found["brier"] == pytest.approx(squared / 3)
    assert found["ece"] == pytest.approx((abs(0.7 - 1) + abs(0.5 - 1) + abs(0.6 - 0)) / 3)
    assert "top5" not in found


ERRORS = {"top1_se", "top5_se", "mean_per_class_se", "nll_se", "brier_se", "ece_se"}
"""Standard errors: of every measure, and of nothing else."""


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
    known = {name: value for name, value in found.items() if name not in ERRORS | {"brier"}}
    assert known == pytest.approx({**{k: float(v) for k, v in expected.items()}, "n": 700}, abs=1e-6)


def test_published_measures_stay_what_they_are() -> None:
    """Records are published with these five, so that a new measure must not move an old one."""
    found = classification(*drawn(450, 10, 7))
    expected = {
        "n": 450.0,
        "top1": 0.28444444444444444,
        "mean_per_class": 0.2848074899949309,
        "nll": 2.429069332854812,
        "ece": 0.24203293045503343,
        "top5": 0.7533333333333333,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("classes", [3, 10])
def test_squared_error_against_scikit_learn(classes: int) -> None:
    """The Brier score is scikit-learn's, neither halved nor divided by the number of classes."""
    from sklearn.metrics import brier_score_loss

    scores, labels = drawn(300, classes)
    probabilities = scores.double().softmax(dim=1).numpy()
    expected = brier_score_loss(labels.numpy(), probabilities, labels=range(classes), scale_by_half=False)
    assert classification(scores, labels)["brier"] == pytest.approx(expected, abs=1e-12)


def test_squared_error_of_two_classes_is_twice_the_binary_one() -> None:
    """For two classes the sum over both is twice torchmetrics' mean squared error of one of them."""
    from torchmetrics.functional import mean_squared_error

    scores, labels = drawn(300, 2)
    one = scores.double().softmax(dim=1)[:, 1]
    expected = 2 * float(mean_squared_error(one, labels.double()))
    assert classification(scores, labels)["brier"] == pytest.approx(expected, abs=1e-6)


def test_macro_and_micro_differ_on_a_long_tail() -> None:
    """`top1` is the share of samples and `mean_per_class` that of classes, by torchmetrics' two averages."""
    from torchmetrics.functional.classification import multiclass_accuracy

    labels = torch.tensor([0] * 90 + [1] * 9 + [2])
    scores = torch.eye(3)[torch.tensor([0] * 95 + [1] * 5)]  # the head is known, the tail is not
    found = classification(scores, labels)
    assert found["top1"] == 95 / 100 - 1 / 100
    assert found["mean_per_class"] == pytest.approx((1 + 4 / 9 + 0) / 3)
    micro = multiclass_accuracy(scores, labels, 3, average="micro")
    macro = multiclass_accuracy(scores, labels, 3, average="macro")
    expected = {"top1": float(micro), "mean_per_class": float(macro)}
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_standard_errors_by_hand() -> None:
    """Shares by p (1 - p) / (n - 1), means by their deviation; 50,000 images at 75 % are known to 0.38."""
    scores, labels = drawn(400, 10)
    found = classification(scores, labels)
    share = found["top1"]
    assert found["top1_se"] == pytest.approx(math.sqrt(share * (1 - share) / 399))
    own = -scores.double().log_softmax(dim=1)[torch.arange(400), labels]
    assert found["nll_se"] == pytest.approx(float(own.std()) / 20)
    assert {name for name in found if name.endswith("_se")} == ERRORS
    right = torch.arange(50_000) < 37_500
    known = classification(torch.eye(2)[(~right).long()], torch.zeros(50_000, dtype=torch.int64))
    assert 1.96 * 100 * known["top1_se"] == pytest.approx(0.38, abs=0.005)


def test_standard_errors_are_those_of_other_samples() -> None:
    """Each is close to the deviation over many draws of the samples; classes are drawn each for itself."""
    scores, labels = drawn(2000, 6)
    found = classification(scores, labels)
    generator = torch.Generator().manual_seed(3)
    by_label = [torch.where(labels == k)[0] for k in range(6)]

    def again(stratified: bool) -> dict[str, float]:  # noqa: FBT001
        parts = by_label if stratified else [torch.arange(2000)]
        drawn_ = [part[torch.randint(0, len(part), (len(part),), generator=generator)] for part in parts]
        chosen = torch.cat(drawn_)
        return classification(scores[chosen], labels[chosen])

    for names, stratified in ((("top1", "top5", "nll", "brier", "ece"), False), (("mean_per_class",), True)):
        many = [again(stratified) for _ in range(300)]
        for name in names:
            deviation = float(torch.tensor([each[name] for each in many], dtype=torch.float64).std())
            assert found[f"{name}_se"] == pytest.approx(deviation, rel=0.15), name


def test_what_one_sample_cannot_tell_is_absent() -> None:
    """No standard error of a single sample, and none over classes where one of them has a single sample."""
    one = classification(torch.eye(6)[:1], torch.tensor([0]))
    assert not [name for name in one if name.endswith("_se")]
    three = classification(torch.eye(6)[:3], torch.tensor([0, 0, 2]))
    assert "mean_per_class_se" not in three
    assert "top1_se" in three


def test_rows_at_once_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A split that is measured a few rows at a time gives the same numbers to the last bit."""
    scores, labels = drawn(517, 33)
    whole = classification(scores, labels)
    monkeypatch.setattr(arrays, "BLOCK", 200)
    assert classification(scores, labels) == whole
    scores[400, 3] = torch.nan
    with pytest.raises(VitkdError, match="sample 400 the first"):
        classification(scores, labels)


def test_numbers_are_plain_and_fractions() -> None:
    """A record gets floats that JSON keeps as numbers, accuracies in [0, 1] and nothing in percent."""
    scores, labels = drawn(200, 10)
    found = json.loads(json.dumps(classification(scores, labels), allow_nan=False))
    assert all(type(value) is float for value in found.values())
    assert all(0 <= found[name] <= 1 for name in ("top1", "top5", "mean_per_class", "ece"))
    assert 0 <= found["brier"] <= 2


@given(st.integers(2, 12), st.integers(1, 5))
def test_oracle_and_constant(classes: int, each: int) -> None:
    """An oracle is right throughout; who always says the same is right for one class in K."""
    labels = torch.arange(classes).repeat(each)
    oracle = classification(torch.eye(classes)[labels] * 1000, labels)
    names = ("top1", "mean_per_class", "nll", "brier", "ece")
    assert [oracle[name] for name in names] == [1, 1, 0, 0, 0]
    constant = torch.zeros(classes * each, classes)
    constant[:, classes - 1] = 1.0
    found = classification(constant, labels)
    assert (found["top1"], found["mean_per_class"]) == pytest.approx((1 / classes, 1 / classes))


@given(st.integers(1, 60), st.integers(2, 12), st.integers(0, 1000))
def test_laws(samples: int, classes: int, seed: int) -> None:
    """0 <= top1 <= top5 <= 1 with whole counts; nothing changes when scores move or samples change places."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(-3, 4, (samples, classes), generator=generator).double()
    labels = torch.randint(0, classes, (samples,), generator=generator)
    found = classification(scores, labels)
    assert 0 <= found["top1"] <= found.get("top5", 1.0) <= 1
    hits = torch.from_numpy(scores.numpy().argmax(axis=1)) == labels  # the first of equals
    assert found["top1"] == int(hits.sum()) / samples
    shares = [int(hits[labels == k].sum()) / int((labels == k).sum()) for k in labels.unique()]
    assert found["mean_per_class"] == pytest.approx(sum(shares) / len(shares))
    assert 0 <= found["brier"] <= 2
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
