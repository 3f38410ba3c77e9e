"""A transformer block with every component as a switch. Names of parameters are timm's."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import DropPath, GluMlp, LayerScale, Mlp, get_act_layer
from torch import Tensor, nn

from vitkd_bench.networks.positions import relative_index, relative_rows
from vitkd_bench.networks.rotary import turned
from vitkd_bench.spec import Architecture, BadInputError


class Attention(nn.Module):
    """Multi-head self-attention, (B, N, D) to (B, N, D), with BEiT's relative position bias if asked for.

    It calls `scaled_dot_product_attention` by its name in `torch.nn.functional` at every forward: there the
    tap stands, and what it sees of q and k is normed and turned already. `qkv_bias="qv"` gives query and
    value a bias of their own and the key none, as BEiT does.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        size, components = architecture.size, architecture.components
        self.num_heads = size.heads
        self.qkv = nn.Linear(size.width, 3 * size.width, bias=components.qkv_bias == "full")
        self.q_norm = _head_norm(architecture)
        self.k_norm = _head_norm(architecture)
        self.halves = components.rope == "dinov3"
        self.proj = nn.Linear(size.width, size.width)
        separate = components.qkv_bias == "qv"
        self.q_bias = nn.Parameter(torch.zeros(size.width)) if separate else None
        self.v_bias = nn.Parameter(torch.zeros(size.width)) if separate else None
        self.relative_position_bias_table: nn.Parameter | None = None
        if components.relative_position_bias:
            rows = relative_rows(architecture.grid)
            self.relative_position_bias_table = nn.Parameter(torch.zeros(rows, size.heads))
            index = relative_index(architecture.grid, architecture.prefix)
            self.register_buffer("relative_position_index", index, persistent=False)

    def forward(self, x: Tensor, rope: Tensor | None = None) -> Tensor:
        """Let tokens attend to each other; `rope` (L, 2 d) turns queries and keys of the last L of them."""
        batch, count, width = x.shape
        bias = self._relative_bias(count)
        qkv = F.linear(x, self.qkv.weight, self._qkv_bias())
        q, k, v = qkv.reshape(batch, count, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = (turned(tensor, rope, halves=self.halves).to(v.dtype) for tensor in (q, k))
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        mixed: Tensor = self.proj(x.transpose(1, 2).reshape(batch, count, width))
        return mixed

    def _qkv_bias(self) -> Tensor | None:
        if self.q_bias is None or self.v_bias is None:
            return self.qkv.bias
        return torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])

    def _relative_bias(self, count: int) -> Tensor | None:
        """Look up the additive bias, (1, heads, N, N)."""
        if self.relative_position_bias_table is None:
            return None
        index = self.get_buffer("relative_position_index")
        if count != len(index):
            raise BadInputError(
                f"components.relative_position_bias: {count} tokens where the table is for {len(index)}; "
                "tokens can be left out only without it"
            )
        return self.relative_position_bias_table[index].permute(2, 0, 1).unsqueeze(0)


class Block(nn.Module):
    """Attention and MLP, each behind a norm, before an optional layer scale, around a residual (pre-norm).

    `drop_path` is the probability that a branch is dropped for a sample in training. `widening` is None, or
    a module that brings tokens of another width to the block's before all else (`networks.widening`).
    """

    def __init__(self, architecture: Architecture, drop_path: float = 0.0) -> None:
        super().__init__()
        size, components = architecture.size, architecture.components
        self.norm1 = nn.LayerNorm(size.width, eps=components.norm_eps)
        self.attn = Attention(architecture)
        self.ls1 = _layer_scale(architecture)
        self.drop_path1 = DropPath(drop_path) if drop_path else nn.Identity()
        self.norm2 = nn.LayerNorm(size.width, eps=components.norm_eps)
        self.mlp = _mlp(architecture)
        self.ls2 = _layer_scale(architecture)
        self.drop_path2 = DropPath(drop_path) if drop_path else nn.Identity()
        self.widening: nn.Module | None = None

    def forward(self, x: Tensor, rope: Tensor | None = None) -> Tensor:
        """Transform tokens, (B, N, D); `rope` as `Attention` takes it."""
        if self.widening is not None:
            x = self.widening(x)
        x = x + self.drop_path1(self.ls1(self.attn(self.norm1(x), rope)))
        out: Tensor = x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))
        return out

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # timm's Beit has the two layer scales under other names; ours do not change with the other components
        for beit, ours in (("gamma_1", "ls1.gamma"), ("gamma_2", "ls2.gamma")):
            if prefix + beit in state_dict:
                state_dict[prefix + ours] = state_dict.pop(prefix + beit)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _head_norm(architecture: Architecture) -> nn.Module:
    size, components = architecture.size, architecture.components
    if not components.qk_norm:
        return nn.Identity()
    return nn.LayerNorm(size.width // size.heads, eps=components.norm_eps)


def _mlp(architecture: Architecture) -> nn.Module:
    """Build the MLP; a gated one has both halves in one matrix, the gate first in `swiglu`, last in `glu`."""
    size, components = architecture.size, architecture.components
    hidden, act = round(size.width * size.mlp_ratio), get_act_layer(components.activation)
    mlp: nn.Module
    if components.mlp == "plain":
        mlp = Mlp(size.width, hidden, act_layer=act)
    elif components.mlp == "swiglu":
        mlp = GluMlp(size.width, 2 * hidden, act_layer=nn.SiLU, gate_last=False)
    else:
        mlp = GluMlp(size.width, 2 * hidden, act_layer=act)
    return mlp


def _layer_scale(architecture: Architecture) -> nn.Module:
    init = architecture.components.layer_scale
    scale: nn.Module = nn.Identity() if init is None else LayerScale(architecture.size.width, init)
    return scale
