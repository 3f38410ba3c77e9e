"""Standard errors of what is measured on a split: how far other test images would have moved it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


def of_mean(values: NDArray[np.float64]) -> float | None:
    """Give sd / sqrt(n) of a mean of n values, n - 1 in the deviation's denominator; None below two."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None


def of_share(hits: int, n: int) -> float | None:
    """Give sqrt(p (1 - p) / (n - 1)) of a share p = hits / n, which is `of_mean` of zeros and ones."""
    return math.sqrt(hits * (n - hits) / (n - 1)) / n if n > 1 else None


def of_class_mean(hits: NDArray[np.float64], counts: NDArray[np.int64]) -> float | None:
    """Give sqrt(sum over classes of p_k (1 - p_k) / (n_k - 1)) / K of a mean of K classes' accuracies.

    Classes are strata of fixed size, no sample of chance. None where a class has one sample, whose spread
    cannot be known.

    Args:
        hits: (K,) right answers by class.
        counts: (K,) samples by class, each at least one.
    """
    if counts.min() < 2:
        return None
    share = hits / counts
    return float(np.sqrt((share * (1 - share) / (counts - 1)).sum()) / len(counts))


def told(errors: Mapping[str, float | None]) -> dict[str, float]:
    """Name each standard error after its measure, `top1_se`; one that is not known is left out."""
    return {f"{name}_se": error for name, error in errors.items() if error is not None}
