"""What is kept of each sample's prediction, small enough to keep for every run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vitkd_bench.measures.arrays import blocks, check_scores, class_indices, normalised
from vitkd_bench.spec import VitkdError

MOST_CLASSES_KEPT = 100


def predictions(
    log_probs: Tensor, labels: Tensor, ids: Sequence[str], over_all: Tensor | None = None
) -> dict[str, NDArray[Any]]:
    """Pack one split's predictions as arrays for an .npz file; none of them needs pickle.

    `ids` (N,) text; `label` (N,) int32; `top5` (N, min(5, K)) int32, the best class first and of equal ones
    the smaller index; `confidence` (N,) float32, the first class's probability; `log_probs` (N, K) float16,
    up to 100 classes, values below -65504 cut there. Top-1 and top-5 follow from them exactly, likelihood and
    divergence closely and up to 100 classes alone: beyond, nothing that needs all probabilities can be found
    again. Of a shift set the scores are those of its own classes (`restricted`), and `over_all` (N,) int32 is
    kept beside them: the class that the first of all training classes belongs to, -1 if to none.

    Raises:
        VitkdError: numbers of samples differ, a label is no class, a value is not finite.
    """
    check_scores(log_probs, "predictions")
    truth = class_indices(labels, tuple(log_probs.shape), "predictions")
    for what, number in (("ids", len(ids)), ("answers over all", len(ids if over_all is None else over_all))):
        if number != len(truth):
            raise VitkdError(f"predictions: {number} {what} for {len(truth)} samples")
    parts = [_packed(block) for block in blocks(log_probs)]
    packed: dict[str, NDArray[Any]] = {
        "ids": np.array(ids, dtype=np.str_),
        "label": truth.astype(np.int32),
        **{name: np.concatenate([part[name] for part in parts]) for name in parts[0]},
    }
    if over_all is not None:
        packed["over_all"] = over_all.cpu().numpy().astype(np.int32)
    return packed


def _packed(block: Tensor) -> dict[str, NDArray[Any]]:
    values = normalised(block)
    found: dict[str, NDArray[Any]] = {
        # the same ranks as in `classification`: those of the scores
        "top5": np.argsort(-block.numpy(), axis=1, kind="stable")[:, :5].astype(np.int32),
        "confidence": np.exp(values.max(axis=1)).astype(np.float32),
    }
    if values.shape[1] <= MOST_CLASSES_KEPT:
        found["log_probs"] = np.maximum(values, np.finfo(np.float16).min).astype(np.float16)
    return found
