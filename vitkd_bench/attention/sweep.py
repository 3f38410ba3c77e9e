"""Distillation without maps: one sweep over tiles of both maps gives the loss and all its gradients.

The loss is a mean over rows, so its gradient is known up to a factor before backward begins: with P the maps,
``dL/dlogits = (P_student - P_teacher) / rows``. A sweep makes a tile of both maps, adds up the loss, folds
the difference into dq, dk and the bias's gradient, and drops the tile. Memory is what q and k take, plus a
tile.

Calls of fused attention (``logsumexp - scale * q . sdpa(q_t, k_t, k_s)`` and its value gradients) give the
same and were the first form. They make each map two or three times over, and the sweep once: on one CPU core
they took 1.4 to 2.7 times its time at 197 to 1370 tokens. They also lose digits where the two maps are near
each other (KL is then a difference of large numbers), take no bias that needs a gradient, and lean on private
operators of torch for the logsumexp. The sweep uses public operators only, on every device and in float64. It
has run on CPUs only so far.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vitkd_bench.attention.call import AttentionCall

# Entries of a tile. On a CPU a tile must stay in the second-level cache (1 MiB of float32; half and twice as
# many took up to a fifth longer). On a GPU it must be large enough to hide the launches of ten kernels.
TILE_CPU = 2**18
TILE_GPU = 2**24

Tile = tuple[slice, slice, slice]  # of batch, heads, queries


def fused_distillation(student: AttentionCall, teacher: AttentionCall, *, kl: bool) -> Tensor:
    """Compute the mean cross-entropy or KL of the student's attention rows (see `attention_distillation`)."""
    q, k, bias = student.q, student.k, student.bias
    wanted = [torch.is_grad_enabled() and t is not None and t.requires_grad for t in (q, k, bias)]
    task = _Task(student, teacher, kl, wanted)
    loss: Tensor = _Distillation.apply(q, k, bias, task)  # type: ignore[no-untyped-call]
    return loss


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """Both sides; q, k and bias of the student also go in by themselves, as autograd wants them."""

    student: AttentionCall
    teacher: AttentionCall
    kl: bool
    wanted: list[bool]  # gradients of q, k, bias


class _Distillation(torch.autograd.Function):
    """Loss and gradients in one sweep; backward only scales them."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, bias: Tensor | None, task: _Task) -> Tensor:
        dtype = torch.promote_types(torch.promote_types(q.dtype, task.teacher.q.dtype), torch.float32)
        with torch.autocast(q.device.type, enabled=False):
            ours = _Logits(task.student, dtype)
            gradients = _Gradients(ours, bias, task.wanted)
            loss = _sweep(ours, _Logits(task.teacher, dtype), gradients, kl=task.kl)
        ctx.save_for_backward(gradients.q, gradients.k, gradients.bias)
        ctx.dtypes = q.dtype, k.dtype, None if bias is None else bias.dtype
        return loss

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        # torch's once_differentiable would let a constant through here: nothing upstream has a graph.
        if torch.is_grad_enabled():
            raise RuntimeError(
                "the fused form of attention_distillation can be differentiated once, and create_graph=True "
                "asks for more: use form='plain'"
            )
        scaled = (
            None if gradient is None else (gradient * upstream[0]).to(dtype)
            for gradient, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        )
        return (*scaled, None)


def _sweep(ours: _Logits, theirs: _Logits, gradients: _Gradients, *, kl: bool) -> Tensor:
    """Add up the loss and its gradients, tile by tile."""
    total = torch.zeros((), dtype=torch.float64, device=ours.q.device)
    masked = ours.bias is not None or theirs.bias is not None
    for tile in _tiles(ours.extent, TILE_CPU if ours.q.device.type == "cpu" else TILE_GPU):
        log_s = ours.of(tile).log_softmax(dim=-1)
        if kl:
            log_t = theirs.of(tile).log_softmax(dim=-1)
            p_t = log_t.exp()
            terms = log_t.sub_(log_s).mul_(p_t)
        else:
            p_t = theirs.of(tile).softmax(dim=-1)
            terms = log_s.neg().mul_(p_t)
        if masked:
            terms.masked_fill_(p_t == 0, 0)  # 0 log 0 is 0, also where a key is masked
        total += terms.sum()
        if gradients.any:
            gradients.add(tile, log_s.exp_().sub_(p_t))
    loss: Tensor = total / ours.rows
    return loss.to(ours.q.dtype)


class _Logits:
    """The logits of one side in one dtype, a tile at a time."""

    def __init__(self, call: AttentionCall, dtype: torch.dtype) -> None:
        self.q, self.k, self.scale = call.q.to(dtype), call.k.to(dtype), call.scale
        self.extent = (*call.q.shape[:3], call.k.shape[2])
        self.rows = math.prod(self.extent[:3])
        self.bias = None if call.bias is None else call.bias.expand(self.extent)

    def of(self, tile: Tile) -> Tensor:
        """Compute a tile of the logits: (maps, rows, keys), batch and heads folded into maps."""
        q, k = self.queries(tile), self.keys(tile)
        if self.bias is None:
            return torch.baddbmm(q.new_empty(1, 1, 1), q, k.mT, beta=0, alpha=self.scale)
        return torch.baddbmm(self.bias[tile].flatten(0, 1).to(q.dtype), q, k.mT, alpha=self.scale)

    def queries(self, tile: Tile) -> Tensor:
        """Cut the queries of a tile: (maps, rows, width)."""
        return self.q[tile].flatten(0, 1)

    def keys(self, tile: Tile) -> Tensor:
        """Cut the keys of a tile, all of them: (maps, keys, width)."""
        return self.k[tile[:2]].flatten(0, 1)


class _Gradients:
    """What the student's q, k and bias are to get, as far as it is wanted."""

    def __init__(self, ours: _Logits, bias: Tensor | None, wanted: list[bool]) -> None:
        self.ours = ours
        self.any = any(wanted)
        self.q = torch.empty_like(ours.q, memory_format=torch.contiguous_format) if wanted[0] else None
        self.k = torch.zeros_like(ours.k, memory_format=torch.contiguous_format) if wanted[1] else None
        self.bias = torch.zeros_like(bias, dtype=ours.q.dtype) if bias is not None and wanted[2] else None

    def add(self, tile: Tile, difference: Tensor) -> None:
        """Fold in the difference of student's and teacher's maps, (maps, rows, keys), in a tile."""
        queries, keys = self.ours.queries(tile), self.ours.keys(tile)
        factor = self.ours.scale / self.ours.rows
        if self.q is not None:
            part = torch.baddbmm(queries.new_empty(1, 1, 1), difference, keys, beta=0, alpha=factor)
            self.q[tile].copy_(part.view_as(self.q[tile]))
        if self.k is not None:
            self.k[tile[:2]].view(keys.shape).baddbmm_(difference.mT, queries, alpha=factor)
        if self.bias is not None:
            self._add_to_bias(self.bias, tile, difference)

    def _add_to_bias(self, bias: Tensor, tile: Tile, difference: Tensor) -> None:
        """Sum over what the bias is shared by."""
        whole = bias[(None,) * (4 - bias.dim())]
        shared = zip(whole.shape, (*tile, slice(None)), strict=True)
        part = whole[tuple(slice(None) if size == 1 else cut for size, cut in shared)]
        batch, heads, queries = (cut.stop - cut.start for cut in tile)
        summed = difference.view(batch, heads, queries, -1).sum_to_size(part.shape)
        part.add_(summed, alpha=1 / self.ours.rows)


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
