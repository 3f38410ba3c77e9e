"""The loss against labels, the same in every method of a comparison."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vitkd_bench.contracts import Batch, Features


def label_loss(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of logits (B, K) with `labels` in nats, mean over the batch.

    `labels` are class indices (B,), or shares of the classes (B, K) whose rows sum to 1, as mixup and cutmix
    give them. `smoothing` in [0, 1) moves that share of the target to the uniform distribution over all K
    classes (Szegedy et al., arXiv:1512.00567, section 7).
    """
    if labels.is_floating_point():
        kind = torch.promote_types(logits.dtype, labels.dtype)  # shares rounded to 8 bits no longer sum to 1
        return F.cross_entropy(logits.to(kind), labels.to(kind), label_smoothing=smoothing)
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)


def larger_class(batch: Batch) -> Tensor:
    """Give the class (B,) of the larger part of each image; its label, where the recipe mixes none."""
    return batch.labels if batch.mixed is None else batch.mixed.argmax(dim=1)


def label_loss_of(student: Features, batch: Batch) -> Tensor:
    """Give the label loss of one step, with the recipe's smoothing; of mixed images, against the mixture."""
    if student.logits is None:
        raise TypeError("the student gave no logits: a loss on labels needs a head")
    return label_loss(student.logits, batch.targets, batch.label_smoothing)
