"""How well labels are predicted: top-1, top-5, per class, likelihood, squared error, calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vitkd_bench.measures import standard_errors
from vitkd_bench.measures.arrays import blocks, check_scores, class_indices, normalised

ECE_BINS = 15
FEWEST_CLASSES_FOR_TOP5 = 6


def classification(scores: Tensor, labels: Tensor) -> dict[str, float]:
    """Score predictions against labels.

    `n` counts the samples; `top1` and `top5` are fractions of samples (micro) with exact counts (`top5` is
    absent below six classes); `mean_per_class` averages the accuracy of each class that occurs in `labels`
    (macro); `nll` is the mean negative log-likelihood in nats; `brier` the mean over samples of the squared
    error summed over classes, in [0, 2] (Brier 1950, eq. 2: not halved, not divided by the number of
    classes); `ece` the expected calibration error of the predicted class over 15 bins of equal width,
    (0, 1/15] to (14/15, 1] (Guo et al., arXiv:1706.04599, eq. 3). Of equal scores the class with the smaller
    index comes first, so a constant predictor predicts class 0.

    Each has its standard error over samples, the trained network being given: `top1_se` and `top5_se` are
    sqrt(p (1 - p) / (n - 1)), which is 0 and no certainty where all are right or all wrong; `nll_se` and
    `brier_se` sd / sqrt(n); `mean_per_class_se` is sqrt(sum_k p_k (1 - p_k) / (n_k - 1)) / K, absent where a
    class has one sample. `ece` is a mean of (hit - confidence) with the sign of its bin, and `ece_se` is
    sd / sqrt(n) of that (the delta method, signs held); that `ece` is too high for few samples is not in it.
    All are absent for a single sample.

    torchmetrics has most of these and costs a worker six seconds of import: the tests compare with it.

    Args:
        scores: (N, K) logits or log-probabilities.
        labels: (N,) class indices.

    Raises:
        VitkdError: shapes differ, a label is no class, a score is not finite.
    """
    truth, each = by_sample(scores, labels, "classification")
    n, hit = len(truth), each.rank == 0
    hits, counts = by_class(hit, truth)
    calibration = _calibration(each.confidence, hit)
    in_first_5 = int((each.rank < 5).sum())
    has_top5 = scores.shape[1] >= FEWEST_CLASSES_FOR_TOP5
    errors = {
        "top1": standard_errors.of_share(int(hit.sum()), n),
        "mean_per_class": standard_errors.of_class_mean(hits, counts),
        "nll": standard_errors.of_mean(-each.log_likelihood),
        "ece": standard_errors.of_mean(calibration),
        "brier": standard_errors.of_mean(each.squared_error),
        "top5": standard_errors.of_share(in_first_5, n) if has_top5 else None,
    }
    return {
        "n": float(n),
        "top1": int(hit.sum()) / n,
        "mean_per_class": float((hits / counts).mean()),
        "nll": float(-each.log_likelihood.sum() / n),
        "ece": _calibration_error(each.confidence, hit),
        "brier": float(each.squared_error.sum() / n),
        **({"top5": in_first_5 / n} if has_top5 else {}),
        **standard_errors.told(errors),
    }


@dataclass(frozen=True, slots=True)
class BySample:
    """What a split's measures are made of, (N,) each.

    `rank` counts the classes before the true one; `log_likelihood` is that of the true one, in nats;
    `confidence` the probability of the first; `squared_error` summed over classes.
    """

    rank: NDArray[np.int64]
    log_likelihood: NDArray[np.float64]
    confidence: NDArray[np.float64]
    squared_error: NDArray[np.float64]


def by_sample(scores: Tensor, labels: Tensor, what: str) -> tuple[NDArray[np.int64], BySample]:
    """Check scores (N, K) and labels (N,), and measure each sample; few rows are held in float64 at once.

    Raises:
        VitkdError: shapes differ, a label is no class, a score is not finite; opens with `what`.
    """
    check_scores(scores, what)
    truth = class_indices(labels, tuple(scores.shape), what)
    parts, start = [], 0
    for block in blocks(scores):
        parts.append(_measured(block, truth[start : start + len(block)]))
        start += len(block)
    return truth, BySample(
        rank=np.concatenate([part.rank for part in parts]),
        log_likelihood=np.concatenate([part.log_likelihood for part in parts]),
        confidence=np.concatenate([part.confidence for part in parts]),
        squared_error=np.concatenate([part.squared_error for part in parts]),
    )


def by_class(
    hit: NDArray[np.bool_], truth: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Count right answers and samples of each class that occurs, in the order of the classes."""
    count = np.bincount(truth).astype(np.int64)
    hits = np.bincount(truth, weights=hit).astype(np.float64)
    return hits[count > 0], count[count > 0]


def _measured(block: Tensor, truth: NDArray[np.int64]) -> BySample:
    log_probs = normalised(block)
    rows = np.arange(len(truth))
    own = log_probs[rows, truth]
    confidence = np.exp(log_probs.max(axis=1))
    difference = np.exp(log_probs)
    difference[rows, truth] -= 1
    # ranks are those of the scores, before rounding by the softmax
    return BySample(_rank(block.numpy(), truth), own, confidence, np.square(difference).sum(axis=1))


def _rank(scores: NDArray[np.float64], truth: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the classes that come before the true one: a higher score, or an equal one at a smaller index."""
    own = scores[np.arange(len(truth)), truth][:, None]
    earlier = np.arange(scores.shape[1])[None] < truth[:, None]
    return np.asarray(((scores > own) | ((scores == own) & earlier)).sum(axis=1))


def _bins(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.clip(np.ceil(confidence * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)


def _calibration_error(confidence: NDArray[np.float64], hit: NDArray[np.bool_]) -> float:
    gap = np.bincount(_bins(confidence), weights=hit - confidence, minlength=ECE_BINS)
    return float(np.abs(gap).sum() / len(hit))


def _calibration(confidence: NDArray[np.float64], hit: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Give each sample's part (N,) of the calibration error, whose mean it is up to rounding."""
    bins = _bins(confidence)
    gap = np.bincount(bins, weights=hit - confidence, minlength=ECE_BINS)
    return np.asarray(np.where(gap < 0, -1, 1)[bins] * (hit - confidence))
