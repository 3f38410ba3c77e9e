"""Head, medium and tail classes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitkd_bench.measures import classification, groups
from vitkd_bench.spec import VitkdError

COUNTS = (500, 101, 100, 20, 19, 0)
"""Two of each group, at the bounds: more than 100, 20 to 100, fewer than 20."""


def test_by_hand() -> None:
    """Bounds are those of the source, and a class counts once however many samples it has."""
    labels = torch.tensor([0, 0, 0, 0, 1, 2, 2, 3, 3, 4, 4, 5, 5])
    guess = torch.tensor([0, 0, 0, 1, 1, 2, 0, 0, 0, 4, 4, 0, 0])
    found = groups(torch.eye(6)[guess], labels, COUNTS)
    assert found["head_top1"] == (3 / 4 + 1) / 2
    assert found["medium_top1"] == (1 / 2 + 0) / 2
    assert found["tail_top1"] == (1 + 0) / 2
    assert [found[f"{name}_classes"] for name in ("head", "medium", "tail")] == [2, 2, 2]
    assert (found["head_above"], found["tail_below"]) == (100, 20)


def test_against_torchmetrics() -> None:
    """Each group is the mean over its classes of torchmetrics' accuracy by class."""
    from torchmetrics.functional.classification import multiclass_accuracy

    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 30, (2000,), generator=generator)
    scores = torch.randn(2000, 30, generator=generator) + 2 * torch.eye(30)[labels]
    counts = torch.logspace(2.7, 0.5, 30).long()
    found = groups(scores, labels, counts.tolist())
    each = multiclass_accuracy(scores, labels, 30, average="none").double()
    chosen = {"head": counts > 100, "medium": (counts <= 100) & (counts >= 20), "tail": counts < 20}
    for name, members in chosen.items():
        assert found[f"{name}_top1"] == pytest.approx(float(each[members].mean()), abs=1e-6)
        assert found[f"{name}_classes"] == int(members.sum())
        assert 0 < found[f"{name}_top1_se"] < 0.05


@given(st.integers(0, 500), st.integers(1, 40), st.lists(st.integers(0, 200), min_size=7, max_size=7))
def test_laws(seed: int, samples: int, counts: list[int]) -> None:
    """Groups share out the classes that occur, and together they are the mean over all classes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 7, (samples,), generator=generator)
    scores = torch.randint(0, 3, (samples, 7), generator=generator).double()
    found = groups(scores, labels, counts)
    names = [name for name in ("head", "medium", "tail") if f"{name}_top1" in found]
    assert sum(found[f"{name}_classes"] for name in names) == len(labels.unique())
    assert all(found[f"{name}_classes"] >= 1 and 0 <= found[f"{name}_top1"] <= 1 for name in names)
    weighted = sum(found[f"{name}_classes"] * found[f"{name}_top1"] for name in names)
    expected = classification(scores, labels)["mean_per_class"]
    assert weighted / len(labels.unique()) == pytest.approx(expected)
    order = torch.randperm(samples, generator=generator)
    assert groups(scores[order], labels[order], counts) == pytest.approx(found)


def test_a_group_without_classes_is_absent() -> None:
    """No class in the head, or none of its classes among the test images: no number for it."""
    labels = torch.tensor([2, 3])
    found = groups(torch.eye(6)[labels], labels, COUNTS)
    assert set(found) == {"head_above", "tail_below", "medium_top1", "medium_classes"}
    assert not [name for name in groups(torch.eye(6)[labels], labels, [50] * 6) if name.startswith("head_t")]


def test_other_thresholds() -> None:
    """Thresholds are an argument and stand beside the numbers."""
    labels = torch.arange(6)
    found = groups(torch.eye(6), labels, COUNTS, head_above=99, tail_below=1)
    assert [found[f"{name}_classes"] for name in ("head", "medium", "tail")] == [3, 2, 1]
    assert (found["head_above"], found["tail_below"]) == (99, 1)


@pytest.mark.parametrize(
    ("counts", "settings", "said"),
    [
        ([1] * 5, {}, r"\(5,\) training counts for 6 classes"),
        ([1, 1, -2, 1, 1, 1], {}, "class 2 has -2 training images"),
        ([1] * 6, {"head_above": 10, "tail_below": 20}, "head above 10 and tail below 20"),
        ([1] * 6, {"tail_below": 0}, "tail below 0"),
    ],
)
def test_what_cannot_be_grouped_is_refused(counts: list[int], settings: dict[str, int], said: str) -> None:
    """Counts of other classes, negative ones and thresholds that overlap end in one line."""
    with pytest.raises(VitkdError, match=said):
        groups(torch.eye(6), torch.arange(6), np.array(counts).tolist(), **settings)
