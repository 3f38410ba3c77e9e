"""What one call of scaled dot product attention is made of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True, eq=False)
class AttentionCall:
    """One call of ``scaled_dot_product_attention``, its arguments resolved.

    `q` (B, H, M, d), `k` (B, H, N, d) and `v` (B, H, N, e) are as the network gave them: rotary embedding and
    the norms of q and k applied, heads of k and v repeated where the network groups queries. In
    self-attention M = N. `bias` is additive and broadcasts to (B, H, M, N), with -inf where a key is masked;
    None is no bias. The map is ``softmax(scale * q @ k.mT + bias)`` over the keys.

    To leave some queries out, cut the rows of `q` (and of `bias`) with `dataclasses.replace`; to leave tokens
    out as queries and keys, `select_tokens`.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    bias: Tensor | None
    scale: float

    def detach(self) -> Self:
        """Give the same call cut from the graph; the tensors share their memory."""
        bias = None if self.bias is None else self.bias.detach()
        return replace(self, q=self.q.detach(), k=self.k.detach(), v=self.v.detach(), bias=bias)

    def logits(self) -> Tensor:
        """Compute the logits of the map, scale and bias included: (B, H, M, N), float32 or better.

        Autocast is off inside: a difference of two maps does not survive eight bits of mantissa.
        """
        dtype = torch.promote_types(self.q.dtype, torch.float32)
        with torch.autocast(self.q.device.type, enabled=False):
            logits = self.scale * (self.q.to(dtype) @ self.k.to(dtype).mT)
            return logits if self.bias is None else logits + self.bias.to(dtype)

    def maps(self) -> Tensor:
        """Compute the attention maps: (B, H, M, N), rows sum to 1, float32 or better.

        A query whose keys are all masked attends to nothing: its row is zero, as in torch's own attention.
        """
        logits = self.logits()
        if self.bias is None:
            return logits.softmax(dim=-1)
        blank = (logits == float("-inf")).all(dim=-1, keepdim=True)
        return logits.masked_fill(blank, 0).softmax(dim=-1).masked_fill(blank, 0)


@dataclass(frozen=True, slots=True, eq=False)
class Arguments:
    """The arguments of ``scaled_dot_product_attention``, by its own names and in its order."""

    query: Tensor
    key: Tensor
    value: Tensor
    attn_mask: Tensor | None = None
    dropout_p: float = 0.0
    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False

    def resolve(self) -> AttentionCall:
        """Make a call of them: heads repeated, masks additive, the scale a number.

        Nothing done here saves a tensor for backward. Under activation checkpointing the recomputation leaves
        it out, and torch compares the number of saved tensors.
        """
        query, heads = self.query, self.query.shape[1]
        return AttentionCall(
            q=query,
            k=repeat_heads(self.key, heads),
            v=repeat_heads(self.value, heads),
            bias=_causal(query, self.key) if self.is_causal else _additive(self.attn_mask, query.dtype),
            scale=query.shape[-1] ** -0.5 if self.scale is None else float(self.scale),
        )


def repeat_heads(tensor: Tensor, heads: int) -> Tensor:
    """Repeat each head of (B, h, N, d) in a row until there are `heads`, as grouped queries share them."""
    batch, own, tokens, width = tensor.shape
    if own == heads:
        return tensor
    wide = tensor.unsqueeze(2).expand(batch, own, heads // own, tokens, width)
    return wide.reshape(batch, heads, tokens, width)


def widened(tensor: Tensor, width: int) -> Tensor:
    """Put zeros behind the last dimension of (..., d) until it is `width`, at least d.

    Beside q and k they change no logit; what they make of v is cut away again.
    """
    missing = width - tensor.shape[-1]
    return F.pad(tensor, (0, missing)) if missing else tensor


def _causal(query: Tensor, key: Tensor) -> Tensor:
    """Mask the keys after each query."""
    shape = query.shape[-2], key.shape[-2]
    return torch.full(shape, float("-inf"), dtype=query.dtype, device=query.device).triu(1)


def _additive(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Turn a mask that is True where a key takes part into a bias; leave a bias as it is."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, float("-inf"))
