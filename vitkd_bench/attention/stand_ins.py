"""Calls that stand in for a part of a block's attention, or with several heads for one of the block's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from vitkd_bench.attention.call import AttentionCall, repeat_heads, widened

Part = Literal["map", "q", "k", "v"]


@dataclass(frozen=True, slots=True, eq=False)
class PartialCall(AttentionCall):
    """A call of which only `parts`, in the heads numbered `heads` (None: all), stand in for a block's own.

    ``map`` is q, k, bias and scale together; ``q``, ``k`` and ``v`` stand alone, and the block's own scale
    and bias stay. It has all heads of the block, of which those not named go unused.
    """

    parts: frozenset[Part] = frozenset({"map"})
    heads: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class AveragedCall(AttentionCall):
    """A call with g heads for each head of a block: heads g h to g h + g - 1 together are head h.

    The block's head attends by the mean of their g maps.
    """


def completed(given: AttentionCall, own: AttentionCall) -> AttentionCall:
    """Fill what `given` leaves to the block from `own`, the block's call: what the block attends with.

    Of an `AveragedCall` the result has more heads than the block, with the block's values repeated.

    Raises:
        ValueError: a part has another head width than it has in the block.
    """
    if isinstance(given, PartialCall):
        return _parts_completed(given, own)
    return AttentionCall(given.q, given.k, repeat_heads(own.v, given.q.shape[1]), given.bias, given.scale)


def fits(given: AttentionCall, own: AttentionCall) -> bool:
    """Say whether batch, heads and queries of both are equal; heads of an `AveragedCall` are a multiple."""
    batch, heads, queries = given.q.shape[:3]
    if isinstance(given, AveragedCall):
        heads = own.q.shape[1] if heads % own.q.shape[1] == 0 else heads
    return (batch, heads, queries) == tuple(own.q.shape[:3])


def heads_averaged(out: Tensor, heads: int) -> Tensor:
    """Average (B, g H, N, e) over the g heads of each of `heads` groups: (B, H, N, e)."""
    return out if out.shape[1] == heads else out.unflatten(1, (heads, -1)).mean(dim=2)


def _parts_completed(given: PartialCall, own: AttentionCall) -> AttentionCall:
    mixed = _with_map(given, own) if "map" in given.parts else own
    chosen = _chosen(given.heads, own)
    q, k, v = (
        _mixed(part, given, own, chosen) if part in given.parts else getattr(mixed, part)
        for part in ("q", "k", "v")
    )
    return replace(mixed, q=q, k=k, v=v)


def _mixed(part: str, given: AttentionCall, own: AttentionCall, chosen: Tensor | None) -> Tensor:
    theirs: Tensor = getattr(given, part)
    ours: Tensor = getattr(own, part)
    if theirs.shape != ours.shape:
        raise ValueError(
            f"{part} of shape {tuple(theirs.shape)} cannot stand in for one of {tuple(ours.shape)}"
        )
    return theirs.to(ours.dtype) if chosen is None else torch.where(chosen, theirs.to(ours.dtype), ours)


def _with_map(given: PartialCall, own: AttentionCall) -> AttentionCall:
    """Take the map of the chosen heads from `given`, and that of the others from `own`."""
    chosen = _chosen(given.heads, own)
    if chosen is None:
        return replace(own, q=given.q, k=given.k, bias=given.bias, scale=given.scale)
    width = max(own.q.shape[-1], given.q.shape[-1])
    rescaled = given.q * (given.scale / own.scale)
    pairs = ((rescaled, own.q), (given.k, own.k))
    q, k = (
        torch.where(chosen, widened(theirs, width).to(ours.dtype), widened(ours, width))
        for theirs, ours in pairs
    )
    return replace(own, q=q, k=k, bias=_mixed_bias(given, own, chosen))


def _mixed_bias(given: AttentionCall, own: AttentionCall, chosen: Tensor) -> Tensor | None:
    if given.bias is None and own.bias is None:
        return None
    zero = torch.zeros((), dtype=own.q.dtype, device=own.q.device)
    theirs, ours = (zero if call.bias is None else call.bias.to(zero.dtype) for call in (given, own))
    return torch.where(chosen, theirs, ours)


def _chosen(heads: Sequence[int] | None, own: AttentionCall) -> Tensor | None:
    """Mark the heads that are numbered: (1, H, 1, 1), or None for all."""
    if heads is None:
        return None
    marks = torch.zeros(own.q.shape[1], dtype=torch.bool, device=own.q.device)
    marks[list(heads)] = True
    return marks.view(1, -1, 1, 1)
