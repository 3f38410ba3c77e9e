"""The forward of the official Vision Transformers, on the names of their own files, in plain operations."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from vitkd_bench.spec import Architecture


def plain_tokens(
    weights: Mapping[str, Tensor], pixels: Tensor, architecture: Architecture, *, antialias: bool
) -> Tensor:
    """Give the tokens (B, N, D) after the last norm, of pixels that are normalised.

    Covers DeiT, DeiT III, DINO, MAE's encoder, MoCo v3, iBOT, I-JEPA, DINOv2 with and without registers, and
    BEiT v2: each part is computed where the file has a tensor for it. `antialias` is how DINOv2 resamples
    positions with registers; without, it asks for a tenth of a row more.
    """
    x = F.conv2d(
        pixels, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], architecture.patch
    )
    x = x.flatten(2).mT
    patches_only = "pos_embed" in weights and weights["pos_embed"].shape[1] == x.shape[1]  # DeiT III, I-JEPA
    if patches_only:
        x = x + weights["pos_embed"]
    if "cls_token" in weights:
        x = torch.cat([weights["cls_token"].expand(len(x), -1, -1), x], dim=1)
    if "pos_embed" in weights and not patches_only:
        x = x + _positions(weights["pos_embed"], architecture.grid, antialias=antialias)
    if "register_tokens" in weights:
        x = torch.cat([x[:, :1], weights["register_tokens"].expand(len(x), -1, -1), x[:, 1:]], dim=1)
    bias = _relative_bias(weights, architecture.grid)
    for block in range(architecture.size.depth):
        own = {n.split(".", 2)[2]: t for n, t in weights.items() if n.startswith(f"blocks.{block}.")}
        x = _block(own, x, architecture.size.heads, bias)
    return F.layer_norm(x, x.shape[-1:], weights["norm.weight"], weights["norm.bias"], 1e-6)


def _block(own: Mapping[str, Tensor], x: Tensor, heads: int, bias: Tensor | float) -> Tensor:
    """One pre-norm block; either way of naming layer scale."""
    one = own.get("ls1.gamma", own.get("gamma_1", torch.ones(())))
    two = own.get("ls2.gamma", own.get("gamma_2", torch.ones(())))
    normed = F.layer_norm(x, x.shape[-1:], own["norm1.weight"], own["norm1.bias"], 1e-6)
    x = x + one * _attention(own, normed, heads, bias)
    normed = F.layer_norm(x, x.shape[-1:], own["norm2.weight"], own["norm2.bias"], 1e-6)
    hidden = F.gelu(F.linear(normed, own["mlp.fc1.weight"], own["mlp.fc1.bias"]))
    return x + two * F.linear(hidden, own["mlp.fc2.weight"], own["mlp.fc2.bias"])


def _attention(own: Mapping[str, Tensor], x: Tensor, heads: int, bias: Tensor | float) -> Tensor:
    batch, count, width = x.shape
    packed = own.get("attn.qkv.bias")
    if packed is None:  # BEiT: none of the keys
        packed = torch.cat([own["attn.q_bias"], torch.zeros(width), own["attn.v_bias"]])
    three = F.linear(x, own["attn.qkv.weight"], packed).split(width, dim=-1)
    q, k, v = (part.view(batch, count, heads, width // heads).transpose(1, 2) for part in three)
    scores = q @ k.mT / math.sqrt(width // heads) + bias
    mixed = (scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(batch, count, width)
    return F.linear(mixed, own["attn.proj.weight"], own["attn.proj.bias"])


def _positions(table: Tensor, grid: int, *, antialias: bool) -> Tensor:
    """Bring a table to `grid` rows as facebookresearch/dinov2 does; at its own grid it is as it is."""
    old = math.isqrt(table.shape[1] - 1)
    if old == grid:
        return table
    square = table[:, 1:].view(1, old, old, -1).permute(0, 3, 1, 2)
    if antialias:
        moved = F.interpolate(square, size=(grid, grid), mode="bicubic", antialias=True)
    else:
        scale = (grid + 0.1) / old
        moved = F.interpolate(square, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat([table[:, :1], moved.flatten(2).mT], dim=1)


def _relative_bias(weights: Mapping[str, Tensor], grid: int) -> Tensor | float:
    """Look up BEiT's shared table for every pair of tokens, one by one: (1, heads, N, N)."""
    table = weights.get("rel_pos_bias.relative_position_bias_table")
    if table is None:
        return 0.0
    rows = torch.arange(grid).repeat_interleave(grid)
    columns = torch.arange(grid).repeat(grid)
    down = rows[:, None] - rows[None, :] + grid - 1
    right = columns[:, None] - columns[None, :] + grid - 1
    index = torch.empty(grid**2 + 1, grid**2 + 1, dtype=torch.long)
    index[1:, 1:] = down * (2 * grid - 1) + right
    to_patches, from_patches, to_itself = range(len(table) - 3, len(table))
    index[0, :], index[:, 0], index[0, 0] = to_patches, from_patches, to_itself
    return table[index].permute(2, 0, 1)[None]
