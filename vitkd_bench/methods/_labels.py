"""The loss against labels, the same in every method of a comparison."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vitkd_bench.contracts import Batch, Features


def label_loss(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of logits (B, K) with class indices (B,) in nats, mean over the batch.

    `smoothing` in [0, 1) moves that share of the target to the uniform distribution over all K classes
    (Szegedy et al., arXiv:1512.00567, section 7).
    """
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)


def label_loss_of(student: Features, batch: Batch) -> Tensor:
    """Give the label loss of one step, with the recipe's label smoothing."""
    if student.logits is None:
        raise TypeError("the student gave no logits: a loss on labels needs a head")
    return label_loss(student.logits, batch.labels, batch.label_smoothing)
