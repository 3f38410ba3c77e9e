"""Tiles of the logits of attention: small enough to be made, used and dropped one after the other."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from vitkd_bench.attention.call import AttentionCall

# Entries of a tile. On a CPU a tile must stay in the second-level cache (1 MiB of float32; half and twice as
# many took up to a fifth longer). On a GPU it must be large enough to hide the launches of ten kernels.
TILE_CPU = 2**18
TILE_GPU = 2**24

Tile = tuple[slice, slice, slice]  # of batch, heads, queries


class TiledLogits:
    """The logits of one side in one dtype, a tile at a time."""

    def __init__(self, call: AttentionCall, dtype: torch.dtype) -> None:
        self.q, self.k, self.scale = call.q.to(dtype), call.k.to(dtype), call.scale
        self.extent = (*call.q.shape[:3], call.k.shape[2])
        self.bias = None if call.bias is None else call.bias.expand(self.extent)

    def tiles(self) -> Iterator[Tile]:
        """Cut the logits into tiles of the size that suits their device."""
        return _tiles(self.extent, TILE_CPU if self.q.device.type == "cpu" else TILE_GPU)

    def of(self, tile: Tile) -> Tensor:
        """Compute a tile of the logits: (maps, rows, keys), batch and heads folded into maps."""
        q, k = self.queries(tile), self.keys(tile)
        if self.bias is None:
            return torch.baddbmm(q.new_empty(1, 1, 1), q, k.mT, beta=0, alpha=self.scale)
        return torch.baddbmm(self.bias[tile].flatten(0, 1).to(q.dtype), q, k.mT, alpha=self.scale)

    def maps(self, tile: Tile) -> Tensor:
        """Compute a tile of the map, likewise; the row of a query whose keys are all masked is zero."""
        logits = self.of(tile)
        if self.bias is None:
            return logits.softmax(dim=-1)
        blank = (logits == float("-inf")).all(dim=-1, keepdim=True)
        return logits.masked_fill_(blank, 0).softmax(dim=-1).masked_fill_(blank, 0)

    def queries(self, tile: Tile) -> Tensor:
        """Cut the queries of a tile: (maps, rows, width)."""
        return self.q[tile].flatten(0, 1)

    def keys(self, tile: Tile) -> Tensor:
        """Cut the keys of a tile, all of them: (maps, keys, width)."""
        return self.k[tile[:2]].flatten(0, 1)


def _tiles(extent: tuple[int, ...], entries: int) -> Iterator[Tile]:
    """Cut batch x heads x queries into tiles of about `entries` entries of the map.

    A tile is some rows of one map, or whole maps of one sample, or whole samples: its batch and heads can be
    folded into one dimension without a copy.
    """
    batch, heads, queries, keys = extent
    maps = max(1, entries // (queries * keys))
    for b in _cuts(batch, maps // heads):
        for h in _cuts(heads, maps):
            for rows in _cuts(queries, entries // keys):
                yield b, h, rows


def _cuts(size: int, at_most: int) -> list[slice]:
    """Cut a range into the fewest pieces of `at_most` (at least 1), as equal as can be."""
    pieces = math.ceil(size / max(1, at_most))
    step = math.ceil(size / pieces)
    return [slice(start, min(start + step, size)) for start in range(0, size, step)]
