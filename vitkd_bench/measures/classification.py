"""How well labels are predicted: top-1, top-5, per class, likelihood, calibration."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vitkd_bench.measures.arrays import class_indices, log_probabilities

ECE_BINS = 15
FEWEST_CLASSES_FOR_TOP5 = 6


def classification(scores: Tensor, labels: Tensor) -> dict[str, float]:
    """Score predictions against labels.

    `n` counts the samples; `top1` and `top5` are fractions with exact counts (`top5` is absent below six
    classes); `mean_per_class` averages the accuracy of each class that occurs in `labels`; `nll` is the mean
    negative log-likelihood in nats; `ece` the expected calibration error of the predicted class over 15 bins
    of equal width, (0, 1/15] to (14/15, 1] (Guo et al., arXiv:1706.04599, eq. 3). Of equal scores the class
    with the smaller index comes first, so a constant predictor predicts class 0.

    torchmetrics has the same numbers and costs a worker six seconds of import: the tests compare with it.

    Args:
        scores: (N, K) logits or log-probabilities.
        labels: (N,) class indices.

    Raises:
        VitkdError: shapes differ, a label is no class, a score is not finite.
    """
    log_probs = log_probabilities(scores, "classification")
    truth = class_indices(labels, log_probs.shape, "classification")
    raw = scores.detach().cpu().double().numpy()  # ranks before rounding by the softmax
    rank = _rank(raw, truth)
    hit = rank == 0
    own = log_probs[np.arange(len(truth)), truth]
    result = {
        "n": float(len(truth)),
        "top1": int(hit.sum()) / len(truth),
        "mean_per_class": _mean_per_class(hit, truth),
        "nll": float(-own.sum() / len(truth)),
        "ece": _calibration_error(np.exp(log_probs.max(axis=1)), hit),
    }
    if log_probs.shape[1] >= FEWEST_CLASSES_FOR_TOP5:
        result["top5"] = int((rank < 5).sum()) / len(truth)
    return result


def _rank(scores: NDArray[np.float64], truth: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the classes that come before the true one: a higher score, or an equal one at a smaller index."""
    own = scores[np.arange(len(truth)), truth][:, None]
    earlier = np.arange(scores.shape[1])[None] < truth[:, None]
    return np.asarray(((scores > own) | ((scores == own) & earlier)).sum(axis=1))


def _mean_per_class(hit: NDArray[np.bool_], truth: NDArray[np.int64]) -> float:
    count = np.bincount(truth)
    hits = np.bincount(truth, weights=hit)
    return float((hits[count > 0] / count[count > 0]).mean())


def _calibration_error(confidence: NDArray[np.float64], hit: NDArray[np.bool_]) -> float:
    bins = np.clip(np.ceil(confidence * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)
    gap = np.bincount(bins, weights=hit - confidence, minlength=ECE_BINS)
    return float(np.abs(gap).sum() / len(hit))
