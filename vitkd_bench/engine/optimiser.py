"""Optimiser and schedule of a recipe."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import nn

from vitkd_bench.networks import ViTNetwork
from vitkd_bench.spec import Recipe

_NEVER_DECAYED = ("pos_embed", "cls_token", "reg_token", "relative_position_bias_table")
_BEFORE_BLOCKS = ("patch_embed", "pos_embed", "cls_token", "reg_token", "norm_pre")


def make_optimiser(network: ViTNetwork, method: object, recipe: Recipe) -> torch.optim.Optimizer:
    """Make AdamW over all trainable parameters of a student and of its method.

    Vectors and scalars (biases, norms, layer scale), tokens, position embeddings and relative position
    tables are not decayed: the common rule by dimension alone would decay the 2-D table. Under `layer_decay`
    a group's `scale` multiplies its rate; the method's own parameters stand above all layers.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    seen: set[int] = set()
    for name, parameter, scale in (*_of_student(network, recipe.layer_decay), *_of_method(method)):
        # what a method has given to the student is the student's
        if parameter.requires_grad and id(parameter) not in seen:
            seen.add(id(parameter))
            spare = parameter.ndim < 2 or any(part in name for part in _NEVER_DECAYED)
            groups.setdefault((scale, spare), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": found, "weight_decay": 0.0 if spare else recipe.weight_decay, "scale": scale}
            for (scale, spare), found in sorted(groups.items(), key=lambda group: group[0])
        ],
        lr=recipe.lr,
        betas=recipe.betas,
        foreach=next(network.parameters()).device.type == "cuda",
    )


def _of_student(network: ViTNetwork, layer_decay: float | None) -> Iterator[tuple[str, nn.Parameter, float]]:
    """Give the student's parameters with the factor of their rate (MAE `util/lr_decay.py`)."""
    top = len(network.blocks) + 1
    for name, parameter in network.named_parameters():
        yield name, parameter, 1.0 if layer_decay is None else layer_decay ** (top - _layer(name, top))


def _of_method(method: object) -> Iterator[tuple[str, nn.Parameter, float]]:
    if isinstance(method, nn.Module):
        for name, parameter in method.named_parameters():
            yield name, parameter, 1.0


def _layer(name: str, top: int) -> int:
    """Number the layers: what comes before the blocks 0, the blocks from 1, what comes after `top`."""
    _, _, within = name.partition("module.")
    if within.startswith("blocks."):
        return int(within.split(".")[1]) + 1
    return 0 if within.startswith(_BEFORE_BLOCKS) else top


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
