"""A setting that names queries, keys and values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator

QKV = Literal["q", "k", "v"]


def _checked(parts: tuple[QKV, ...]) -> tuple[QKV, ...]:
    if not parts or len(set(parts)) < len(parts):
        raise ValueError(f"name one or more of q, k, v, each once, got {list(parts)}")
    return tuple(part for part in ("q", "k", "v") if part in parts)


QKVParts = Annotated[tuple[QKV, ...], AfterValidator(_checked)]
"""One or more of q, k, v; the order in which they are written plays no part."""
