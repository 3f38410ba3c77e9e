"""A call with tokens left out, with some of its heads, or with its heads repeated.

Where tokens are left out, their rows and columns of the map are dropped and the remaining rows normalised
again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from vitkd_bench.attention.call import AttentionCall, repeat_heads


def select_tokens(call: AttentionCall, tokens: Sequence[int]) -> AttentionCall:
    """Keep these tokens of a self-attention call, as queries and as keys; all others are left out.

    `tokens` are n positions among the call's N, ascending, each once. q, k and v become (B, H, n, d), the
    bias keeps its form. The map of the result is that of `call` without the rows and columns of what is left
    out, each row divided by its sum: a softmax over fewer keys is just that, so the map is made nowhere.
    Gradients reach what is kept. A row of which nothing is kept but masked keys stays zero.

    Raises:
        ValueError: queries and keys differ in number, or `tokens` are none, not ascending or beyond them.
    """
    count = call.k.shape[2]
    if call.q.shape[2] != count:
        raise ValueError(
            f"tokens can be left out of self-attention only: {call.q.shape[2]} queries, {count} keys"
        )
    runs = _runs(tokens, count)
    if runs == [(0, count)]:
        return call
    return AttentionCall(
        q=_cut(call.q, -2, runs),
        k=_cut(call.k, -2, runs),
        v=_cut(call.v, -2, runs),
        bias=None if call.bias is None else _cut_bias(call.bias, runs),
        scale=call.scale,
    )


def select_heads(call: AttentionCall, heads: Sequence[int]) -> AttentionCall:
    """Keep these heads of a call, n of its H, each once: q, k and v become (B, n, N, d).

    Gradients reach what is kept. All heads in their order give the call itself.

    Raises:
        ValueError: `heads` are none, or one is given twice or is not there.
    """
    count = call.q.shape[1]
    if not heads or len(set(heads)) < len(heads) or not all(0 <= head < count for head in heads):
        raise ValueError(f"heads to keep must be numbers from 0 to {count - 1}, each once, got {list(heads)}")
    if list(heads) == list(range(count)):
        return call
    kept, bias = list(heads), call.bias
    if bias is not None and _differs_by_head(bias):
        bias = bias[..., kept, :, :]
    return replace(call, q=call.q[:, kept], k=call.k[:, kept], v=call.v[:, kept], bias=bias)


def with_heads(call: AttentionCall, heads: int) -> AttentionCall:
    """Repeat each head of a call in a row until there are `heads`, a multiple of what it has.

    Raises:
        ValueError: `heads` is no multiple.
    """
    own = call.q.shape[1]
    if heads % own:
        raise ValueError(f"{own} heads cannot be repeated to {heads}: that is no multiple")
    if heads == own:
        return call
    q, k, v = (repeat_heads(tensor, heads) for tensor in (call.q, call.k, call.v))
    bias = call.bias
    if bias is not None and _differs_by_head(bias):
        bias = bias.repeat_interleave(heads // own, dim=-3)
    return replace(call, q=q, k=k, v=v, bias=bias)


def _differs_by_head(bias: Tensor) -> bool:
    return bias.dim() >= 3 and bias.shape[-3] > 1


def _runs(tokens: Sequence[int], count: int) -> list[tuple[int, int]]:
    """Give the stretches (start, length) that `tokens` are made of; a single one is cut without a copy."""
    ascending = all(a < b for a, b in pairwise(tokens))
    if not tokens or not ascending or tokens[0] < 0 or tokens[-1] >= count:
        raise ValueError(
            f"tokens to keep must be ascending positions from 0 to {count - 1}, got {list(tokens)}"
        )
    runs: list[tuple[int, int]] = []
    for token in tokens:
        start, length = runs[-1] if runs else (token, 0)
        if token == start + length:
            runs[-1:] = [(start, length + 1)]
        else:
            runs.append((token, 1))
    return runs


def _cut(tensor: Tensor, dim: int, runs: list[tuple[int, int]]) -> Tensor:
    parts = [tensor.narrow(dim, start, length) for start, length in runs]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


def _cut_bias(bias: Tensor, runs: list[tuple[int, int]]) -> Tensor:
    """Cut the sides of a bias that it has; one that is broadcast along a side has a single row or column."""
    for dim in (-2, -1):
        if bias.dim() >= -dim and bias.shape[dim] > 1:
            bias = _cut(bias, dim, runs)
    return bias
