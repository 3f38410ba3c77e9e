"""A paired bootstrap over images and seeds together."""

from __future__ import annotations

import numpy as np

from vitkd_bench.statistics.intervals import Interval


def paired_bootstrap(
    treated: np.ndarray, baseline: np.ndarray, seed: int = 0, draws: int = 2000, level: float = 0.95
) -> Interval:
    """Interval of a difference of accuracies when other seeds and other images had been drawn.

    Seeds (rows) and images (columns) are resampled with replacement, the same for both sides. The t interval
    over seeds takes the images as given; this one does not. With fewer than about five seeds their share of
    the spread is underestimated (a percentile interval over 3 seeds alone covers 74 % instead of 95), so read
    it beside the t interval, not instead of it.

    Args:
        treated: (seeds, images) bool, whether each image is classified rightly.
        baseline: the same shape, seeds and images in the same order.
        seed: of the resampling; equal seeds give equal intervals.
        draws: number of resamplings.
        level: confidence of the percentile interval.

    Returns:
        The difference `treated - baseline` in percentage points; `n` counts seeds.

    Raises:
        ValueError: shapes that differ, or are not (seeds, images) with at least one of each.
    """
    if treated.shape != baseline.shape or treated.ndim != 2 or not treated.size:
        raise ValueError(f"needs two (seeds, images) arrays of one shape: {treated.shape}, {baseline.shape}")
    difference = 100.0 * (treated.astype(np.int8) - baseline.astype(np.int8))
    seeds, images = difference.shape
    generator = np.random.default_rng(seed)
    # images that fare alike under all seeds are interchangeable, and there are few kinds of them: drawing how
    # many come of each kind is the same bootstrap, at a cost that does not grow with the number of images
    kinds, counts = np.unique(difference, axis=1, return_counts=True)
    rows = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws) / seeds
    columns = generator.multinomial(images, counts / images, size=draws) / images
    means = np.einsum("ds,sd->d", rows, kinds @ columns.T)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(difference.mean()), float(low), float(high), seeds, level, float(means.std(ddof=1)))
