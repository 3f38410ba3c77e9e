"""k nearest neighbours."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitkd_bench.measures import knn_accuracy
from vitkd_bench.spec import VitkdError


def spread(count: int, seed: int, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Points about one direction for each class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (count,), generator=generator)
    return torch.eye(8)[labels] + 0.5 * torch.randn(count, 8, generator=generator), labels


@pytest.mark.parametrize("k", [1, 5, 10])
def test_against_scikit_learn(k: int) -> None:
    """The accuracy is scikit-learn's under the cosine distance, up to ties in the vote."""
    from sklearn.neighbors import KNeighborsClassifier

    known, labels = spread(300, 0)
    wanted, truth = spread(600, 1)
    reference = KNeighborsClassifier(k, metric="cosine").fit(known.numpy(), labels.numpy())
    expected = reference.score(wanted.numpy(), truth.numpy())
    assert knn_accuracy(known, labels, wanted, truth, k) == pytest.approx(expected, abs=0 if k == 1 else 0.02)


@given(st.integers(0, 100), st.floats(0.1, 100))
def test_length_of_features_does_not_matter(seed: int, scale: float) -> None:
    """Only directions count."""
    known, labels = spread(40, seed)
    wanted, truth = spread(30, seed + 1)
    lengths = torch.rand(30, 1, generator=torch.Generator().manual_seed(seed)) + 0.5
    plain = knn_accuracy(known.double(), labels, wanted.double(), truth)
    assert knn_accuracy(known.double() * scale, labels, wanted.double() * lengths, truth) == plain


def test_majority_and_ties() -> None:
    """The majority wins; of equal votes the more similar class; of equal similarity the smaller index."""
    axis, near = [1.0, 0.0], [0.99, np.sqrt(1 - 0.99**2)]
    wanted = torch.tensor([axis])

    def elected(points: list[list[float]], labels: list[int]) -> int:
        known = torch.tensor(points)
        right = [
            knn_accuracy(known, torch.tensor(labels), wanted, torch.tensor([c]), len(points))
            for c in range(3)
        ]
        assert sorted(right) == [0, 0, 1]
        return right.index(1)

    assert elected([axis, near, near], [0, 2, 2]) == 2
    assert elected([near, axis], [0, 2]) == 2
    assert elected([near, near], [2, 1]) == 1


def test_large_evaluations_are_done_in_parts() -> None:
    """More rows than are held at once give the same as one by one."""
    known, labels = spread(50, 0)
    wanted, truth = spread(1100, 1)
    hits = [knn_accuracy(known, labels, wanted[i : i + 1], truth[i : i + 1]) for i in range(0, 1100, 11)]
    assert sum(hits) / 100 == knn_accuracy(known, labels, wanted[::11], truth[::11])
    parts = [
        knn_accuracy(known, labels, wanted[a:b], truth[a:b]) * (b - a) for a, b in ((0, 600), (600, 1100))
    ]
    assert knn_accuracy(known, labels, wanted, truth) == pytest.approx(sum(parts) / 1100)


def test_features_without_length_are_similar_to_nothing() -> None:
    """A dead feature is no error and no neighbour of anything."""
    known = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    assert knn_accuracy(known, torch.tensor([0, 1]), torch.tensor([[1.0, 1.0]]), torch.tensor([1]), 1) == 1


@pytest.mark.parametrize(
    ("known", "labels", "wanted", "k", "said"),
    [
        (torch.zeros(3, 2), 3, torch.zeros(1, 3), 1, "shapes do not fit"),
        (torch.zeros(3, 2), 2, torch.zeros(1, 2), 1, "shapes do not fit"),
        (torch.zeros(3, 2), 3, torch.zeros(1, 2), 4, "1 to 3"),
        (torch.zeros(3, 2), 3, torch.zeros(1, 2), 0, "1 to 3"),
        (torch.zeros(3), 3, torch.zeros(1, 2), 1, "is needed"),
        (
            torch.full((3, 2), torch.nan),
            3,
            torch.zeros(1, 2),
            1,
            "training features: values that are not finite",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(
    known: torch.Tensor, labels: int, wanted: torch.Tensor, k: int, said: str
) -> None:
    """Shapes that do not fit, too large a k and values that are not finite are refused."""
    with pytest.raises(VitkdError, match=said):
        knn_accuracy(
            known, torch.zeros(labels, dtype=torch.int64), wanted, torch.zeros(1, dtype=torch.int64), k
        )
