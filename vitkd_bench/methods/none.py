"""No transfer: the student learns from labels alone; the baseline of every comparison."""

from __future__ import annotations

from torch import Tensor

from vitkd_bench.contracts import Batch, Features, Method
from vitkd_bench.methods._labels import label_loss, label_loss_of
from vitkd_bench.registry import METHODS


def none_loss(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of logits (B, K) with labels (B,) in nats, mean over the batch: all of `none`."""
    return label_loss(logits, labels, smoothing)


@METHODS.register(
    "none",
    title="No transfer (baseline)",
    kind="baseline",
    paper="arXiv:1512.00567 (label smoothing, section 7)",
    reads_teacher=False,
    budget="0: learning rate and weight decay are tuned on this method and frozen for all others",
)
class NoTransfer(Method):
    """Cross-entropy with the labels, smoothed as the recipe says."""

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        return {"labels": label_loss_of(student, batch)}
