"""Mixup and cutmix by timm: a step's images mixed with each other, and their labels with them."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from vitkd_bench.pipeline.draws import global_generators
from vitkd_bench.spec import Augmentation


def mix(
    views: Sequence[Tensor], labels: Tensor, rule: Augmentation, classes: int, key: int
) -> tuple[list[Tensor], Tensor]:
    """Mix the images of one step, each with the one that stands as far from the other end.

    Share, box and the choice between mixup and cutmix are drawn once a step, from `key` alone, so that every
    view is mixed alike. Of an odd number of images the last stays as it is.

    Args:
        views: of the same images, each (B, C, H, W); not changed.
        labels: (B,) class indices below `classes`.
        rule: `mixup` or `cutmix` is on.
        classes: K, of the data set.
        key: the stream of random numbers: seed, epoch and step (`spec.seeds.seeded`).

    Returns:
        The views mixed, and the share of each class in each image: (B, K) float32, rows sum to 1, not
        smoothed.
    """
    from timm.data.mixup import Mixup

    mixup = Mixup(
        mixup_alpha=rule.mixup,
        cutmix_alpha=rule.cutmix,
        prob=rule.mixup_probability,
        switch_prob=rule.switch_probability,
        label_smoothing=0.0,  # the loss smooths, as it does without mixing
        num_classes=classes,
    )
    even = len(labels) - len(labels) % 2
    shares = F.one_hot(labels, classes).float()
    found = [view.clone() for view in views]
    with global_generators() as start:
        for view in found:
            start(key)
            view[:even], shares[:even] = mixup(view[:even], labels[:even])
    return found, shares
