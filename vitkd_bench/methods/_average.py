"""The moving average of a network: the teacher of self-distillation (Tarvainen and Valpola, 2017)."""

from __future__ import annotations

import copy
import math
from typing import TypeVar

import torch
from torch import nn

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def average_of(module: AnyModule) -> AnyModule:
    """Copy a module to start its average from; the copy's parameters are not trained."""
    return copy.deepcopy(module).requires_grad_(requires_grad=False).eval()


@torch.no_grad()
def move_average(average: nn.Module, module: nn.Module, momentum: float) -> None:
    """Move each parameter of `average` a share 1 - momentum towards that of `module`; copy buffers."""
    for old, new in zip(average.parameters(), module.parameters(), strict=True):
        old.lerp_(new, 1 - momentum)
    for kept, fresh in zip(average.buffers(), module.buffers(), strict=True):
        kept.copy_(fresh)


def momentum_at(start: float, progress: float) -> float:
    """Give the momentum at `progress` in [0, 1]: half a cosine from `start` up to 1 (BYOL, DINO, MoCo v3)."""
    return 1 - (1 - start) * (1 + math.cos(math.pi * progress)) / 2
