"""Pretraining with labels: the objective of DeiT and of AugReg (arXiv:2012.12877, arXiv:2106.10270).

Kept: cross-entropy with smoothed labels; the two families differ by recipe, AugReg's being the one with
stronger augmentation and regularisation. Not possible at this scale: mixup, cutmix and RandAugment of a
schedule of hundreds of epochs, AugReg's first stage on ImageNet-21k, and DeiT's distillation token (no part
of the teachers listed).
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from vitkd_bench.contracts import Batch, Features, Method, Network
from vitkd_bench.methods._labels import label_loss_of
from vitkd_bench.methods._stages import open_layer_scale
from vitkd_bench.registry import METHODS


@METHODS.register(
    "pretrain_labels",
    title="Pretraining: labels (DeiT, AugReg)",
    kind="pretraining",
    paper="arXiv:2012.12877",
    reads_teacher=False,
)
class PretrainLabels(Method):
    """Cross-entropy with the labels, smoothed as the recipe says."""

    def fit(self, student: Network, teacher: Network | None, batches: Iterable[Batch]) -> None:
        open_layer_scale(student)

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        return {"labels": label_loss_of(student, batch)}
