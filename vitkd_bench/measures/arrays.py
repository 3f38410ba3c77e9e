"""From tensors to checked float64 arrays."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitkd_bench.spec import VitkdError


def log_probabilities(scores: Tensor, what: str) -> NDArray[np.float64]:
    """Normalise logits or log-probabilities (N, K) to log-probabilities in float64; `what` is for errors.

    Raises:
        VitkdError: not (N, K) with N > 0 and K > 1, or a value that is not finite.
    """
    if scores.ndim != 2 or scores.shape[0] < 1 or scores.shape[1] < 2:
        raise VitkdError(f"{what}: (samples, classes) is needed, got {tuple(scores.shape)}")
    values = scores.detach().to("cpu", torch.float64)
    bad = (~values.isfinite()).any(dim=1)
    if bad.any():
        raise VitkdError(
            f"{what}: {int(bad.sum())} of {len(values)} samples have values that are not finite, "
            f"sample {int(bad.nonzero()[0])} the first"
        )
    return np.asarray(torch.log_softmax(values, dim=1).numpy())


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
