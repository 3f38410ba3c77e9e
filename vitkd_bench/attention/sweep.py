"""Distillation without maps: one sweep over tiles of both maps gives the loss and all its gradients.

The loss is a mean over rows, so its gradient is known up to a factor before backward begins: with P the maps,
``dL/dlogits = (P_student - P_teacher) / rows`` for the cross-entropy, and for every other distance some slope
that takes no more than the rows at hand (`distances`). A sweep makes a tile of both maps, adds up the loss,
folds the slope into dq, dk and the bias's gradient, and drops the tile. Memory is what q and k take, plus a
tile.

For the cross-entropy, calls of fused attention (``logsumexp - scale * q . sdpa(q_t, k_t, k_s)`` and its value
gradients) give the same and were the first form. They make each map two or three times over, and the sweep
once: on one CPU core they took 1.4 to 2.7 times its time at 197 to 1370 tokens. They also lose digits where
the two maps are near each other (KL is then a difference of large numbers), take no bias that needs a
gradient, and lean on private operators of torch for the logsumexp. The sweep uses public operators only, on
every device and in float64. It has run on CPUs only so far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vitkd_bench.attention.call import AttentionCall
from vitkd_bench.attention.distances import OF_TILE, Loss, OfTile
from vitkd_bench.attention.tiles import Tile, TiledLogits


def fused_distillation(student: AttentionCall, teacher: AttentionCall, loss: Loss, divisor: int) -> Tensor:
    """Compute the sum of a distance over the student's attention rows, by `divisor`.

    See `attention_distillation`, whose reduction is the divisor.
    """
    q, k, bias = student.q, student.k, student.bias
    wanted = [torch.is_grad_enabled() and t is not None and t.requires_grad for t in (q, k, bias)]
    task = _Task(student, teacher, OF_TILE[loss], divisor, wanted)
    value: Tensor = _Distillation.apply(q, k, bias, task)  # type: ignore[no-untyped-call]
    return value


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """Both sides; q, k and bias of the student also go in by themselves, as autograd wants them."""

    student: AttentionCall
    teacher: AttentionCall
    of_tile: OfTile
    divisor: int
    wanted: list[bool]  # gradients of q, k, bias


class _Distillation(torch.autograd.Function):
    """Loss and gradients in one sweep; backward only scales them."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, bias: Tensor | None, task: _Task) -> Tensor:
        dtype = torch.promote_types(torch.promote_types(q.dtype, task.teacher.q.dtype), torch.float32)
        with torch.autocast(q.device.type, enabled=False):
            ours = TiledLogits(task.student, dtype)
            gradients = _Gradients(ours, bias, task.wanted, task.divisor)
            loss = _sweep(ours, TiledLogits(task.teacher, dtype), gradients, task.of_tile) / task.divisor
        ctx.save_for_backward(gradients.q, gradients.k, gradients.bias)
        ctx.dtypes = q.dtype, k.dtype, None if bias is None else bias.dtype
        return loss.to(dtype)

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


def _sweep(ours: TiledLogits, theirs: TiledLogits, gradients: _Gradients, of_tile: OfTile) -> Tensor:
    """Add up the loss, in float64, and its gradients, tile by tile."""
    total = torch.zeros((), dtype=torch.float64, device=ours.q.device)
    masked = ours.bias is not None or theirs.bias is not None
    for tile in ours.tiles():
        part, slope = of_tile(ours.of(tile), theirs.of(tile), masked=masked)
        total += part
        if gradients.any:
            gradients.add(tile, slope())
    return total


class _Gradients:
    """What the student's q, k and bias are to get, as far as it is wanted."""

    def __init__(self, ours: TiledLogits, bias: Tensor | None, wanted: list[bool], divisor: int) -> None:
        self.ours, self.divisor = ours, divisor
        self.any = any(wanted)
        self.q = torch.empty_like(ours.q, memory_format=torch.contiguous_format) if wanted[0] else None
        self.k = torch.zeros_like(ours.k, memory_format=torch.contiguous_format) if wanted[1] else None
        self.bias = torch.zeros_like(bias, dtype=ours.q.dtype) if bias is not None and wanted[2] else None

    def add(self, tile: Tile, slope: Tensor) -> None:
        """Fold in the slope of the sum by the student's logits, (maps, rows, keys), in a tile."""
        queries, keys = self.ours.queries(tile), self.ours.keys(tile)
        factor = self.ours.scale / self.divisor
        if self.q is not None:
            part = torch.baddbmm(queries.new_empty(1, 1, 1), slope, keys, beta=0, alpha=factor)
            self.q[tile].copy_(part.view_as(self.q[tile]))
        if self.k is not None:
            self.k[tile[:2]].view(keys.shape).baddbmm_(slope.mT, queries, alpha=factor)
        if self.bias is not None:
            self._add_to_bias(self.bias, tile, slope)

    def _add_to_bias(self, bias: Tensor, tile: Tile, slope: Tensor) -> None:
        """Sum over what the bias is shared by."""
        whole = bias[(None,) * (4 - bias.dim())]
        shared = zip(whole.shape, (*tile, slice(None)), strict=True)
        part = whole[tuple(slice(None) if size == 1 else cut for size, cut in shared)]
        batch, heads, queries = (cut.stop - cut.start for cut in tile)
        summed = slope.view(batch, heads, queries, -1).sum_to_size(part.shape)
        part.add_(summed, alpha=1 / self.divisor)
