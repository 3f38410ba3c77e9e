"""Names of taps: points of a network whose activations are read, or, for attention, replaced."""

from __future__ import annotations

LOGITS = "logits"
POOLED = "pooled"


def attention(block: int) -> str:
    """Name the attention call of one block, counted from 0."""
    return f"attention/{block}"


def tokens(block: int) -> str:
    """Name the tokens that leave one block, counted from 0."""
    return f"tokens/{block}"


def blocks_of(taps: frozenset[str], kind: str) -> tuple[int, ...]:
    """Give the blocks that `taps` name for `kind` (`attention` or `tokens`), in order."""
    prefix = f"{kind}/"
    return tuple(sorted(int(tap.removeprefix(prefix)) for tap in taps if tap.startswith(prefix)))
