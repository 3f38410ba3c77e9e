"""Tokens of a block, told apart: the class token and the grid of patches."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vitkd_bench.contracts import Features
from vitkd_bench.spec import Architecture


def patches_after(features: Features, block: int, architecture: Architecture) -> Tensor:
    """Give the patch tokens (B, P, D) that leave `block`, row by row; class token and registers left out."""
    return features.tokens[block][:, architecture.prefix :]


def class_token_after(features: Features, block: int, architecture: Architecture) -> Tensor:
    """Give the class token (B, D) that leaves `block`; of a network without one the mean of its patches."""
    if not architecture.class_token:
        return patches_after(features, block, architecture).mean(dim=1)
    return features.tokens[block][:, 0]


def as_grid(patches: Tensor) -> Tensor:
    """Lay patch tokens (B, P, D) of a square grid out as an image (B, D, side, side)."""
    images, count, width = patches.shape
    side = round(count**0.5)
    return patches.transpose(1, 2).reshape(images, width, side, side)


def resized(patches: Tensor, side: int) -> Tensor:
    """Bring patch tokens (B, P, D) to a grid of `side` x `side` by averaging: (B, side^2, D)."""
    grid = as_grid(patches)
    if grid.shape[-1] == side:
        return patches
    return F.adaptive_avg_pool2d(grid, side).flatten(2).transpose(1, 2)
