"""Attention copy: the teacher's map with the student's values, the map never made."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vitkd_bench.attention import interception
from vitkd_bench.attention.call import AttentionCall, widened
from vitkd_bench.attention.tiles import TiledLogits

# Keys from which another form is taken on a CPU. Time of forward and backward over the form that makes the
# maps whole, one core, 6 and 12 heads of 64, with freed memory given back to the system or kept (page faults
# decide; docs/attention.md has the table):
# - maps made in tiles, 0.6 of the memory: 0.95 to 1.06 at 65 to 101 keys, 0.6 to 1.0 from 145 on;
# - maps made twice and never kept: 1.4 at 65 to 101 keys, 0.8 to 1.4 at 197, 0.6 to 1.2 at 577, 0.5 to 1.1 at
#   1025 and 1370; the only one whose memory is linear in tokens;
# - torch's fused attention, where q or k want gradients: 0.9 to 1.2 at 65, 0.8 to 1.1 at 129, 0.4 to 0.95
#   from 577 on.
TILED_FROM = 128
NOT_KEPT_FROM = 1024
FUSED_FROM = 128


def copied_attention(teacher: AttentionCall, v: Tensor, dropout_p: float = 0.0) -> Tensor:
    """Apply the teacher's attention maps to the student's values.

    `v` is (B, H, N, e) with the teacher's batch, heads and keys; e may differ from the teacher's head width.
    The result is (B, H, M, e) in the dtype of `v` (of autocast, where that is on). `dropout_p` is the
    student's attention dropout, a probability. Equal to ``teacher.maps() @ v`` without dropout; from 1024
    keys on (128 where the call wants gradients), with dropout, and on a GPU, the maps are not kept and memory
    is linear in tokens. Gradients reach all that requires them: detach the teacher's call to keep it out.

    Source: Li et al., NeurIPS 2024 (arXiv:2411.09702), "attention copy".

    Raises:
        ValueError: batch, heads, tokens or device differ.
        RuntimeError: a second differentiation of a constant map of 1024 keys or more on a CPU.
    """
    _refuse_misfit(teacher, v)
    if v.device.type != "cpu" or dropout_p:
        return _fused(teacher, v, dropout_p)
    keys = v.shape[2]
    if any(t is not None and t.requires_grad for t in (teacher.q, teacher.k, teacher.bias)):
        return teacher.maps().to(v.dtype) @ v if keys < FUSED_FROM else _fused(teacher, v)
    if keys >= NOT_KEPT_FROM:
        out: Tensor = _NotKept.apply(v, teacher)  # type: ignore[no-untyped-call]
        return out
    maps = teacher.maps().to(v.dtype) if keys < TILED_FROM else _maps_in_tiles(teacher, v.dtype)
    return maps @ v


def _maps_in_tiles(call: AttentionCall, dtype: torch.dtype) -> Tensor:
    """Make the maps (B, H, M, N) of a constant call, their logits a tile at a time: one tensor, not three."""
    with torch.autocast(call.q.device.type, enabled=False):
        logits = TiledLogits(call, torch.promote_types(call.q.dtype, torch.float32))
        made = call.q.new_empty(logits.extent, dtype=dtype)
        for tile in logits.tiles():
            made[tile].copy_(logits.maps(tile).view_as(made[tile]))
    return made


def _fused(teacher: AttentionCall, v: Tensor, dropout_p: float = 0.0) -> Tensor:
    """Call torch's fused attention."""
    width, needed = v.shape[-1], max(v.shape[-1], teacher.q.shape[-1])
    # the fused kernels of the CPU want one width for q, k and v
    q, k, values = (widened(t.to(v.dtype), needed) for t in (teacher.q, teacher.k, v))
    bias = None if teacher.bias is None else teacher.bias.to(v.dtype)
    out = interception.untapped(q, k, values, attn_mask=bias, dropout_p=dropout_p, scale=teacher.scale)
    return out if width == needed else out[..., :width]


class _NotKept(torch.autograd.Function):
    """Fused attention by a map that wants no gradient: backward computes that of the values alone."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, teacher: AttentionCall) -> Tensor:
        ctx.save_for_backward(teacher.q, teacher.k, teacher.bias)
        ctx.scale, ctx.dtype = teacher.scale, v.dtype
        return _fused(teacher, v)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "copied attention of 1024 keys or more can be differentiated once, and create_graph=True "
                "asks for more"
            )
        q, k, bias = ctx.saved_tensors
        call = AttentionCall(q, k, k, bias, ctx.scale)
        with torch.autocast(q.device.type, enabled=False):
            return _gradient_of_values(call, upstream[0]).to(ctx.dtype), None


def _gradient_of_values(call: AttentionCall, upstream: Tensor) -> Tensor:
    """Compute ``maps.mT @ upstream`` of (B, H, M, e), tile by tile: (B, H, N, e), float32 or better."""
    dtype = torch.promote_types(call.q.dtype, torch.float32)
    logits, upstream = TiledLogits(call, dtype), upstream.to(dtype)
    gradient = upstream.new_zeros(*call.k.shape[:3], upstream.shape[-1])
    for tile in logits.tiles():
        whole = gradient[tile[:2]].view(-1, *gradient.shape[2:])
        whole.baddbmm_(logits.maps(tile).mT, upstream[tile].flatten(0, 1))
    return gradient


def _refuse_misfit(teacher: AttentionCall, v: Tensor) -> None:
    if v.shape[:3] != teacher.k.shape[:3]:
        asked = "batch {}, {} heads, {} tokens".format(*v.shape[:3])
        given = "batch {}, {} heads, {} tokens".format(*teacher.k.shape[:3])
        raise ValueError(
            f"the teacher's attention ({given}) cannot be applied to values of {asked}: copying needs equal "
            "batch, heads and tokens"
        )
    if v.device != teacher.q.device:
        raise ValueError(f"the teacher's attention is on {teacher.q.device}, the values are on {v.device}")
