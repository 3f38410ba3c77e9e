"""Mixup and cutmix by timm: a step's images mixed with each other, and their labels with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from vitkd_bench.pipeline.draws import global_generators
from vitkd_bench.spec import Augmentation


def mix(
    views: Sequence[Tensor], labels: Tensor, rule: Augmentation, classes: int, key: int
) -> tuple[list[Tensor], Tensor]:
    """Mix the images of one step, each with the one that stands as far from the other end.

    Share, box and the choice between mixup and cutmix are drawn once a step, from `key` alone, so that every
    view is mixed alike; in views of another size the box of the first is scaled, to whole pixels. Of an odd
    number of images the last stays as it is.

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
    mixup = _mixup(rule, classes)
    even = len(labels) - len(labels) % 2
    shares = F.one_hot(labels, classes).float()
    found = [view.clone() for view in views]
    side = views[0].shape[-1]
    with global_generators() as start:
        for view in found:
            start(key)
            if view.shape[-1] == side:
                view[:even], shares[:even] = mixup(view[:even], labels[:even])
            else:
                _mix_as(view[:even], views[0].shape, mixup)
    return found, shares


def _mixup(rule: Augmentation, classes: int) -> Any:
    from timm.data.mixup import Mixup

    return Mixup(
        mixup_alpha=rule.mixup,
        cutmix_alpha=rule.cutmix,
        prob=rule.mixup_probability,
        switch_prob=rule.switch_probability,
        label_smoothing=0.0,  # the loss smooths, as it does without mixing
        num_classes=classes,
    )


def _mix_as(view: Tensor, shape: Sequence[int], mixup: Any) -> None:
    """Mix a view in place as timm mixes one of another `shape` from the same state of the generators."""
    from timm.data.mixup import cutmix_bbox_and_lam

    share, cut = mixup._params_per_batch()  # noqa: SLF001 - what timm draws has no other door
    if share == 1:
        return
    if not cut:
        other = view.flip(0).mul_(1 - share)
        view.mul_(share).add_(other)
        return
    box, _ = cutmix_bbox_and_lam(
        tuple(shape), share, ratio_minmax=mixup.cutmix_minmax, correct_lam=mixup.correct_lam
    )
    top, bottom, left, right = (round(int(edge) * view.shape[-1] / shape[-1]) for edge in box)
    view[..., top:bottom, left:right] = view.flip(0)[..., top:bottom, left:right]
