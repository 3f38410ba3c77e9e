"""Stored predictions: small, complete, and in agreement with the measures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vitkd_bench.measures import arrays, classification, predictions
from vitkd_bench.spec import VitkdError


def scores(samples: int, classes: int) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Random scores, labels and ids."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, classes, (samples,), generator=generator)
    return (
        torch.randn(samples, classes, generator=generator) * 3,
        labels,
        [f"test/ü{i}" for i in range(samples)],
    )


@pytest.mark.parametrize("classes", [3, 10, 100, 101])
def test_measures_can_be_found_again(tmp_path: Path, classes: int) -> None:
    """From the file, read without pickle, top-1 and top-5 come out exactly and the likelihood closely."""
    given, labels, ids = scores(200, classes)
    packed: dict[str, Any] = predictions(given, labels, ids)
    np.savez_compressed(tmp_path / "p.npz", **packed)
    with np.load(tmp_path / "p.npz", allow_pickle=False) as kept:
        measured = classification(given, labels)
        hits = kept["top5"] == kept["label"][:, None]
        assert hits[:, 0].mean() == measured["top1"]
        assert hits.any(axis=1).mean() == measured.get("top5", 1.0)
        assert kept["ids"].tolist() == ids
        assert kept["top5"].shape == (200, min(5, classes))
        assert np.allclose(kept["confidence"], given.double().softmax(1).max(1).values)
        assert ("log_probs" in kept) is (classes <= 100)
        if classes <= 100:
            nll = -kept["log_probs"].astype(np.float64)[np.arange(200), kept["label"]].mean()
            assert nll == pytest.approx(measured["nll"], rel=1e-3)


def test_ten_thousand_samples_of_ten_classes_are_small() -> None:
    """A split of ten classes takes less than 100 bytes a sample beside its id."""
    given, labels, ids = scores(1000, 10)
    packed = predictions(given, labels, ids)
    assert sum(v.nbytes for k, v in packed.items() if k != "ids") <= 100 * 1000


def test_equal_scores_are_ordered_by_index() -> None:
    """The stored five are in the same order as the measures rank them."""
    packed = predictions(torch.zeros(2, 8), torch.tensor([0, 1]), ["a", "b"])
    assert packed["top5"].tolist() == [[0, 1, 2, 3, 4]] * 2


def test_far_values_are_cut_and_stay_finite() -> None:
    """A class that is out of the question does not become an infinite value."""
    packed = predictions(torch.tensor([[0.0, -1e6]]), torch.tensor([0]), ["a"])
    assert packed["log_probs"].tolist() == [[0.0, -65504.0]]


def test_ids_have_to_fit() -> None:
    """A missing id is refused."""
    with pytest.raises(VitkdError, match="1 ids for 2 samples"):
        predictions(torch.zeros(2, 3), torch.zeros(2), ["a"])
    with pytest.raises(VitkdError, match="1 answers over all for 2 samples"):
        predictions(torch.zeros(2, 3), torch.zeros(2), ["a", "b"], torch.zeros(1))


def test_rows_at_once_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A split that is packed a few rows at a time gives the same arrays."""
    given, labels, ids = scores(101, 12)
    whole = predictions(given, labels, ids)
    monkeypatch.setattr(arrays, "BLOCK", 100)
    found = predictions(given, labels, ids)
    assert {name: array.tolist() for name, array in found.items()} == {
        name: array.tolist() for name, array in whole.items()
    }
    assert {name: array.dtype for name, array in found.items()} == {k: v.dtype for k, v in whole.items()}
