"""Random streams by name: every draw that can change a number starts from a seed derived here."""

from __future__ import annotations

import hashlib

from vitkd_bench.spec.canonical import canonical_json


def seeded(seed: int, *names: str | int) -> int:
    """Derive the seed of the stream that `names` name from `seed`: 64 bits of a SHA-256, in [0, 2**64).

    Streams of different names are independent, and one more stream moves none of the others:
    `seeded(0, "order", 3)` is the order of the data in epoch 3 of the run with seed 0. Text and numbers
    differ: `"3"` and `3` name two streams.
    """
    digest = hashlib.sha256(canonical_json([seed, *names]).encode()).digest()
    return int.from_bytes(digest[:8], "big")
