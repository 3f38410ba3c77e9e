"""Optimiser and schedule of a recipe."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from vitkd_bench.spec import Recipe

_NEVER_DECAYED = ("pos_embed", "cls_token", "reg_token", "relative_position_bias_table")


def make_optimiser(networks: Iterable[nn.Module], recipe: Recipe) -> torch.optim.Optimizer:
    """Make AdamW over all trainable parameters of a student and of its method.

    Vectors and scalars (biases, norms, layer scale), tokens, position embeddings and relative position
    tables are not decayed: the common rule by dimension alone would decay the 2-D table.
    """
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for network in networks:
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                spare = parameter.ndim < 2 or any(part in name for part in _NEVER_DECAYED)
                (spared if spare else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]], lr=recipe.lr, betas=recipe.betas, foreach=False
    )


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Give the rate of one step: linear warm-up from zero, then half a cosine down to `min_lr`.

    A function of the step alone, so that a resumed run needs no state of a scheduler.
    """
    warmup = recipe.warmup_epochs * steps_per_epoch
    total = recipe.epochs * steps_per_epoch
    if step < warmup:
        return recipe.lr * (step + 1) / warmup
    done = (step - warmup) / max(1.0, total - warmup)
    return recipe.min_lr + (recipe.lr - recipe.min_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
