"""Calls and a small network that the tests of this room share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from vitkd_bench.attention import AttentionCall


def _call(
    batch: int = 2,
    heads: int = 3,
    tokens: int = 5,
    width: int = 4,
    *,
    bias: tuple[int, ...] | None = None,
    dtype: torch.dtype = torch.float64,
    spread: float = 1.0,
    seed: int = 0,
) -> AttentionCall:
    random = torch.Generator().manual_seed(seed)
    draw = partial(torch.randn, generator=random, dtype=torch.float64)
    q, k, v = (spread * draw(batch, heads, tokens, width) for _ in range(3))
    own_bias = None if bias is None else draw(bias).to(dtype)
    return AttentionCall(q.to(dtype), k.to(dtype), v.to(dtype), own_bias, width**-0.5)


@pytest.fixture(scope="session")
def make_call() -> Callable[..., AttentionCall]:
    """Make a random call: batch, heads, tokens, width, and the shape of its bias."""
    return _call


class Block(nn.Module):
    """A transformer block whose attention is called as `attend` says."""

    def __init__(
        self, width: int, heads: int, attend: Callable[..., Tensor] | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.heads, self.dropout, self.attend = heads, dropout, attend
        self.inner: dict[str, Any] = {}  # options of a checkpoint around the attention alone
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU())

    def attention(self, x: Tensor) -> Tensor:
        """Mix the tokens, (B, N, D) to (B, N, D)."""
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        attend = self.attend or F.scaled_dot_product_attention
        out = attend(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        mixed: Tensor = self.proj(out.transpose(1, 2).reshape(batch, tokens, width))
        return mixed

    def forward(self, x: Tensor) -> Tensor:
        """Mix the tokens, then each by itself, (B, N, D) to (B, N, D)."""
        mixed = checkpoint(self.attention, x, **self.inner) if self.inner else self.attention(x)
        x = x + mixed
        out: Tensor = x + self.mlp(x)
        return out


class TinyViT(nn.Module):
    """Blocks, and a pooling head that calls attention too, outside them."""

    def __init__(self, depth: int = 3, width: int = 12, heads: int = 3, **block: Any) -> None:
        super().__init__()
        self.embed = nn.Linear(width, width)
        self.blocks = nn.ModuleList(Block(width, heads, **block) for _ in range(depth))
        self.pool = Block(width, heads)
        self.checkpointing: str = "none"
        self.options: dict[str, Any] = {"use_reentrant": False}

    def forward(self, x: Tensor) -> Tensor:
        """Give one vector a sample, (B, N, D) to (B, D)."""
        x = self.embed(x)
        if self.checkpointing == "segment":
            x = checkpoint(nn.Sequential(*self.blocks), x, **self.options)
        else:
            x = self._through(self.blocks, x)
        pooled: Tensor = self.pool(x)
        return pooled.mean(dim=1)

    def _through(self, blocks: Iterable[nn.Module], x: Tensor) -> Tensor:
        for block in blocks:
            x = checkpoint(block, x, **self.options) if self.checkpointing == "block" else block(x)
        return x


@pytest.fixture(scope="session")
def make_vit() -> Callable[..., TinyViT]:
    """Make a small network in float64: depth, width, heads; `attend`, `dropout` of its blocks; a seed."""

    def make(*, seed: int = 0, **settings: Any) -> TinyViT:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return TinyViT(**settings).double()

    return make


@pytest.fixture(scope="session")
def images() -> Tensor:
    """Tokens for the small network: 2 images of 5 tokens."""
    return torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
