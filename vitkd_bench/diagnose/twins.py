"""Counterfactual twins: the same weights under another reading of them.

A network whose pixels, head split or queries and keys are misread runs without an error and is only worse.
So each reading that people get wrong is tried on the same images. Both kinds stand outside of the network,
so that one form serves every backend: pixel statistics are an affine map before it, and the split into heads
and the swap of queries and keys are made where attention is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from vitkd_bench.attention.call import Arguments
from vitkd_bench.attention.interception import untapped, visiting
from vitkd_bench.spec import HALF_PIXELS, IMAGENET_PIXELS, OPENAI_PIXELS, Architecture, PixelStats, Teacher

Kind = Literal["pixels", "heads", "queries_keys"]
RAW = PixelStats(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
KNOWN_PIXELS = {
    "ImageNet's pixel statistics": IMAGENET_PIXELS,
    "half (0.5, 0.5) pixel statistics": HALF_PIXELS,
    "OpenAI's pixel statistics": OPENAI_PIXELS,
    "no normalisation": RAW,
}


@dataclass(frozen=True, slots=True)
class Twin:
    """One other reading: `name` says it as what the weights would want."""

    kind: Kind
    name: str
    pixels: PixelStats | None = None
    heads: int | None = None

    def feed(self, images: Tensor, own: PixelStats) -> Tensor:
        """Give images in [0, 1] such that a network which normalises by `own` sees this twin's pixels."""
        if self.pixels is None:
            return images
        mean, std, other_mean, other_std = (
            torch.tensor(values).view(1, -1, 1, 1)
            for values in (own.mean, own.std, self.pixels.mean, self.pixels.std)
        )
        return mean + std * (images - other_mean) / other_std

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Compute self-attention this twin's way in this thread, while it is open; no gradients."""
        if self.kind == "pixels":
            yield
            return
        with visiting(_Reread(self.heads)):
            yield


class _Reread:
    """Answers calls of attention with queries and keys swapped, or split into another number of heads."""

    owner = None  # the tap asks every visitor whose it is

    def __init__(self, heads: int | None) -> None:
        self.heads = heads

    def attend(self, *args: Any, **kwargs: Any) -> Tensor:
        """Answer one call; a pooling head, whose queries are not the tokens, is left as it is."""
        asked = Arguments(*args, **kwargs)
        if asked.query.shape != asked.key.shape:
            return untapped(*args, **kwargs)
        if self.heads is None:
            return untapped(asked.key, asked.query, asked.value, attn_mask=asked.attn_mask, scale=asked.scale)
        batch, own, tokens, _ = asked.query.shape

        def split(tensor: Tensor, heads: int) -> Tensor:
            return tensor.transpose(1, 2).reshape(batch, tokens, heads, -1).transpose(1, 2)

        mixed = untapped(*(split(tensor, self.heads) for tensor in (asked.query, asked.key, asked.value)))
        return split(mixed, own)


def twins_of(teacher: Teacher, architecture: Architecture) -> tuple[Twin, ...]:
    """List the readings to be tried beside the declared one.

    Other splits into heads are left out where a bias, a rotation or a norm belongs to each head.
    """
    found = [
        Twin("pixels", name, pixels=stats)
        for name, stats in KNOWN_PIXELS.items()
        if len(teacher.pixels.mean) == 3 and stats != teacher.pixels
    ]
    components, size = architecture.components, architecture.size
    per_head = {"relative_position_bias", "rope", "qk_norm"}
    if not per_head & set(components.present()):
        splits = {2 * size.heads} | ({size.heads // 2} if size.heads % 2 == 0 else set())
        found += [
            Twin("heads", f"{heads} heads", heads=heads)
            for heads in sorted(splits)
            if size.width % heads == 0
        ]
    return (*found, Twin("queries_keys", "queries and keys swapped"))
