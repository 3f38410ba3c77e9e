"""Accuracy on classes with many, some and few training images (Liu et al., arXiv:1904.05160, section 5)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vitkd_bench.measures import standard_errors
from vitkd_bench.measures.classification import by_class, by_sample
from vitkd_bench.spec import VitkdError

HEAD_ABOVE = 100
TAIL_BELOW = 20


def groups(
    scores: Tensor,
    labels: Tensor,
    train_counts: Sequence[int],
    *,
    head_above: int = HEAD_ABOVE,
    tail_below: int = TAIL_BELOW,
) -> dict[str, float]:
    """Score head, medium and tail classes apart, told by their numbers of training images.

    `head_top1` (more than `head_above`), `tail_top1` (fewer than `tail_below`) and `medium_top1` (the rest)
    are the mean over the classes of a group of the accuracy of each, a fraction: macro, as the source has it.
    A class that does not occur in `labels` counts nowhere. Beside each stand `head_classes` ..., the number
    of classes averaged, and `head_top1_se` ..., the standard error over samples, as of `mean_per_class`; a
    group without classes is absent. `head_above` and `tail_below` are given back, so that numbers of other
    thresholds are told apart. Over all classes the same mean is `mean_per_class`.

    Args:
        scores: (N, K) logits or log-probabilities.
        labels: (N,) class indices.
        train_counts: (K,) training images of each class, those that the run trains on.
        head_above: a class of the head has more training images than this.
        tail_below: a class of the tail has fewer than this.

    Raises:
        VitkdError: shapes differ, a label is no class, a score is not finite, a count is negative, or the
            thresholds leave a class in two groups.
    """
    counts = _checked(train_counts, scores.shape[-1], head_above, tail_below)
    truth, each = by_sample(scores, labels, "groups of classes")
    hits, tested = by_class(each.rank == 0, truth)
    trained = counts[np.unique(truth)]
    members = {
        "head": trained > head_above,
        "medium": (trained <= head_above) & (trained >= tail_below),
        "tail": trained < tail_below,
    }
    found = {"head_above": float(head_above), "tail_below": float(tail_below)}
    for name, chosen in members.items():
        if chosen.any():
            found |= _group(name, hits[chosen], tested[chosen])
    return found


def _checked(
    train_counts: Sequence[int], classes: int, head_above: int, tail_below: int
) -> NDArray[np.int64]:
    counts = np.asarray(train_counts, dtype=np.int64)
    if counts.shape != (classes,):
        raise VitkdError(f"groups of classes: {counts.shape} training counts for {classes} classes")
    if counts.min() < 0:
        raise VitkdError(
            f"groups of classes: class {int(counts.argmin())} has {counts.min()} training images"
        )
    if not 0 < tail_below <= head_above + 1:
        raise VitkdError(
            f"groups of classes: head above {head_above} and tail below {tail_below} training images; "
            f"1 to {head_above + 1} would do for the tail"
        )
    return counts


def _group(name: str, hits: NDArray[np.float64], tested: NDArray[np.int64]) -> dict[str, float]:
    error = standard_errors.of_class_mean(hits, tested)
    return {
        f"{name}_top1": float((hits / tested).mean()),
        f"{name}_classes": float(len(tested)),
        **standard_errors.told({f"{name}_top1": error}),
    }
