"""k nearest neighbours: what features know without a trained head."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vitkd_bench.spec import VitkdError

_CHUNK = 512  # rows of similarities held at once


def knn_accuracy(
    train_features: Tensor, train_labels: Tensor, features: Tensor, labels: Tensor, k: int = 10
) -> float:
    """Classify by the majority among the k most similar training samples (cosine); give the accuracy.

    Of equally similar training samples the earlier one is nearer; of classes with equal votes the one with
    the larger sum of similarities wins, then the one with the smaller index. Features of length zero are
    similar to nothing (0).

    Args:
        train_features: (M, D).
        train_labels: (M,) class indices.
        features: (N, D).
        labels: (N,) class indices.
        k: neighbours that vote, at most M.

    Returns:
        The fraction of the N samples whose class is found, in [0, 1].

    Raises:
        VitkdError: shapes do not fit, a feature is not finite, or k is not in 1 to M.
    """
    known, wanted = _unit(train_features, "training features"), _unit(features, "features")
    if known.shape[1] != wanted.shape[1] or len(known) != len(train_labels) or len(wanted) != len(labels):
        raise VitkdError(
            f"k-NN: shapes do not fit: training {known.shape} with {len(train_labels)} labels, "
            f"evaluation {wanted.shape} with {len(labels)}"
        )
    if not 1 <= k <= len(known):
        raise VitkdError(f"k-NN: k is {k}; 1 to {len(known)} training samples can vote")
    votes_for = np.asarray(train_labels.detach().cpu().numpy())
    truth = np.asarray(labels.detach().cpu().numpy())
    hits = 0
    for start in range(0, len(wanted), _CHUNK):
        similar = wanted[start : start + _CHUNK] @ known.T
        hits += int((_elected(similar, votes_for, k) == truth[start : start + _CHUNK]).sum())
    return hits / len(wanted)


def _unit(features: Tensor, what: str) -> NDArray[np.float64]:
    values = features.detach().cpu().double().numpy()
    if values.ndim != 2 or not len(values):
        raise VitkdError(f"k-NN: {what}: (samples, width) is needed, got {values.shape}")
    if not np.isfinite(values).all():
        raise VitkdError(f"k-NN: {what}: values that are not finite")
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.where(length > 0, length, 1))


def _elected(similar: NDArray[np.float64], labels: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    near = np.argsort(-similar, axis=1, kind="stable")[:, :k]
    rows = np.arange(len(similar))[:, None]
    votes = np.zeros((len(similar), int(labels.max()) + 1))
    weight = np.zeros_like(votes)
    np.add.at(votes, (rows, labels[near]), 1)
    np.add.at(weight, (rows, labels[near]), np.take_along_axis(similar, near, axis=1))
    leading = votes == votes.max(axis=1, keepdims=True)
    return np.asarray(np.where(leading, weight, -np.inf).argmax(axis=1))
