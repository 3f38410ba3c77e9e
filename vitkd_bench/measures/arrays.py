"""From tensors to checked float64 arrays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitkd_bench.spec import VitkdError

BLOCK = 1 << 24
"""Scores held in float64 at once: 128 MiB, however many samples and classes there are."""


class NotFiniteError(VitkdError):
    """Scores that are infinite or not numbers."""


def check_scores(scores: Tensor, what: str) -> None:
    """Check logits or log-probabilities (N, K); `what` is for errors.

    Raises:
        VitkdError: not (N, K) with N > 0 and K > 1.
        NotFiniteError: a value that is not finite.
    """
    if scores.ndim != 2 or scores.shape[0] < 1 or scores.shape[1] < 2:
        raise VitkdError(f"{what}: (samples, classes) is needed, got {tuple(scores.shape)}")
    bad = torch.cat([(~block.isfinite()).any(dim=1) for block in blocks(scores)])
    if bad.any():
        raise NotFiniteError(
            f"{what}: {int(bad.sum())} of {len(bad)} samples have values that are not finite, "
            f"sample {int(bad.nonzero()[0])} the first"
        )


def blocks(scores: Tensor) -> Iterator[Tensor]:
    """Give scores (N, K) as float64 on the CPU, a few rows at a time; what is done by row stays the same."""
    rows = max(1, BLOCK // scores.shape[1])
    for start in range(0, scores.shape[0], rows):
        yield scores[start : start + rows].detach().to("cpu", torch.float64)


def normalised(block: Tensor) -> NDArray[np.float64]:
    """Normalise rows of float64 scores to log-probabilities."""
    return np.asarray(torch.log_softmax(block, dim=1).numpy())


def class_indices(labels: Tensor, shape: tuple[int, ...], what: str) -> NDArray[np.int64]:
    """Check labels (N,) against scores of shape (N, K).

    Raises:
        VitkdError: another number of samples, or a label that is no class.
    """
    values = np.asarray(labels.detach().cpu().numpy()).astype(np.int64)
    if values.shape != shape[:1]:
        raise VitkdError(f"{what}: {values.shape} labels for {shape[0]} samples")
    if values.min() < 0 or values.max() >= shape[1]:
        raise VitkdError(f"{what}: labels from {values.min()} to {values.max()} for {shape[1]} classes")
    return values
