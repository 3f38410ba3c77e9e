"""Where a token is: the fixed embedding, the relative index, and learned tables at another grid."""

from __future__ import annotations

import math

import torch
from timm.layers import build_sincos2d_pos_embed, resample_abs_pos_embed, resize_rel_pos_bias_table_simple
from timm.models.beit import gen_relative_position_index
from torch import Tensor
from torch.nn import functional as F

from vitkd_bench.networks.weights import FLOATING
from vitkd_bench.spec import Architecture, BadInputError
from vitkd_bench.spec.teacher import PositionInterpolation

DINO_OFFSET = 0.1  # keeps a size that is computed from the factor from being rounded down
PREFIX_RELATIONS = 3  # prefix to patch, patch to prefix, prefix to prefix: the last rows of a relative table


def position_length(architecture: Architecture) -> int:
    """Count the rows of the absolute position embedding: patches, and the prefix where it has positions."""
    return architecture.grid**2 + architecture.prefix * architecture.components.position_on_prefix


def fixed_position(architecture: Architecture) -> Tensor:
    """Build the 2D sin-cos embedding of MoCo v3, (1, L, D): row then column, the prefix's slots zero.

    Source: facebookresearch/moco-v3 `vits.py:53-69`, temperature 10000.

    Raises:
        BadInputError: the width is not divisible by 4.
    """
    width, grid = architecture.size.width, architecture.grid
    if width % 4:
        raise BadInputError(
            f"components.position: a fixed 2D embedding needs a width divisible by 4, got {width}"
        )
    patches = build_sincos2d_pos_embed([grid, grid], width, interleave_sin_cos=True)
    empty = patches.new_zeros(position_length(architecture) - grid**2, width)
    return torch.cat([empty, patches])[None]


def apart_from_fixed(table: Tensor, prefix: int) -> tuple[float, float] | None:
    """Say how far a table (L, D) or (1, L, D) is from the 2D sin-cos one, at the table's own grid.

    Two largest absolute differences, of values in [-1, 1]: from the table as MoCo v3 has it, row before
    column, and with the two exchanged, as MAE (facebookresearch/mae `util/pos_embed.py`) and I-JEPA have it.
    The first `prefix` slots are zero in both. None where there is no such table: patches in no square, a
    width not divisible by 4.
    """
    held = table.detach().float().cpu().reshape(-1, table.shape[-1])
    grid, width = math.isqrt(max(len(held) - prefix, 0)), held.shape[1]
    if not grid or grid**2 + prefix != len(held) or width % 4:
        return None
    rows: Tensor = build_sincos2d_pos_embed([grid, grid], width, interleave_sin_cos=True)
    columns = rows.unflatten(0, (grid, grid)).transpose(0, 1).flatten(0, 1)
    empty = rows.new_zeros(prefix, width)
    first, other = (float((held - torch.cat([empty, form])).abs().max()) for form in (rows, columns))
    return first, other


def relative_index(grid: int, prefix: int) -> Tensor:
    """Number the relation of every token to every other, (N, N) int64 rows of a relative position table.

    BEiT's numbering (timm `models/beit.py`), which knows one class token; every prefix token here stands in
    its place, so that registers, or no prefix at all, need no table of another form.
    """
    beit = gen_relative_position_index((grid, grid))
    token = torch.tensor([0] * prefix + list(range(1, grid**2 + 1)))
    index: Tensor = beit[token][:, token]
    return index


def relative_rows(grid: int) -> int:
    """Count the rows of a relative table: one for every offset of two patches, three for the prefix."""
    return (2 * grid - 1) ** 2 + PREFIX_RELATIONS


def resample_position(
    table: Tensor,
    grid: int,
    prefix: int,
    interpolation: PositionInterpolation = "timm",
    *,
    registers: int = 0,
) -> Tensor:
    """Bring a learned absolute embedding (1, L, D) to `grid` patches a side, the `prefix` slots unchanged.

    `timm` is bicubic with antialiasing, to that size (timm `layers/pos_embed.py`). `official` is what DINO,
    iBOT and DINOv2 compute (facebookresearch/dinov2 `models/vision_transformer.py`
    `interpolate_pos_encoding`, offset and antialiasing from `hub/backbones.py`; the other two have a function
    of that name): bicubic without antialiasing, by the factor (grid + 0.1) / old grid; and for models with
    `registers` to that size, with antialiasing. A table of another form or of no floating type comes back as
    it is.
    """
    old = math.isqrt(table.shape[1] - prefix)
    if old**2 + prefix != table.shape[1] or old == grid or table.dtype not in FLOATING:
        return table  # not a square grid and this prefix, or no weights: the strict check names it
    if interpolation == "timm":
        antialiased: Tensor = resample_abs_pos_embed(table, [grid] * 2, [old] * 2, num_prefix_tokens=prefix)
        return antialiased
    patches = table[:, prefix:].unflatten(1, (old, old)).permute(0, 3, 1, 2)
    if registers:
        moved = F.interpolate(patches, size=(grid, grid), mode="bicubic", antialias=True)
    else:
        factor = (grid + DINO_OFFSET) / old
        moved = F.interpolate(patches, scale_factor=(factor, factor), mode="bicubic", antialias=False)
    return torch.cat([table[:, :prefix], moved.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def resample_relative(table: Tensor, architecture: Architecture) -> Tensor:
    """Bring a relative position table (R, heads) to the architecture's grid, bicubic.

    BEiT's own code takes sample points in a geometric progression; timm's form of it indexes in a way that
    torch has announced to read differently, so it is not used.
    """
    if table.shape[0] == relative_rows(architecture.grid) or table.dtype not in FLOATING:
        return table
    old = (math.isqrt(table.shape[0] - PREFIX_RELATIONS) + 1) // 2
    if relative_rows(old) != table.shape[0]:
        return table  # as above
    shape = relative_rows(architecture.grid), table.shape[1]
    resampled: Tensor = resize_rel_pos_bias_table_simple(table, (architecture.grid,) * 2, shape)
    return resampled
