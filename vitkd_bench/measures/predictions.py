"""What is kept of each sample's prediction, small enough to keep for every run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vitkd_bench.measures.arrays import class_indices, log_probabilities
from vitkd_bench.spec import VitkdError

MOST_CLASSES_KEPT = 100


def predictions(log_probs: Tensor, labels: Tensor, ids: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Pack one split's predictions as arrays for an .npz file; none of them needs pickle.

    `ids` (N,) text; `label` (N,) int32; `top5` (N, min(5, K)) int32, the best class first and of equal ones
    the smaller index; `confidence` (N,) float32, the first class's probability; `log_probs` (N, K) float16,
    up to 100 classes, values below -65504 cut there.

    Raises:
        VitkdError: numbers of samples differ, a label is no class, a value is not finite.
    """
    values = log_probabilities(log_probs, "predictions")
    truth = class_indices(labels, values.shape, "predictions")
    if len(ids) != len(truth):
        raise VitkdError(f"predictions: {len(ids)} ids for {len(truth)} samples")
    raw = log_probs.detach().cpu().double().numpy()  # the same ranks as in `classification`
    packed: dict[str, NDArray[Any]] = {
        "ids": np.array(ids, dtype=np.str_),
        "label": truth.astype(np.int32),
        "top5": np.argsort(-raw, axis=1, kind="stable")[:, :5].astype(np.int32),
        "confidence": np.exp(values.max(axis=1)).astype(np.float32),
    }
    if values.shape[1] <= MOST_CLASSES_KEPT:
        packed["log_probs"] = np.maximum(values, np.finfo(np.float16).min).astype(np.float16)
    return packed
