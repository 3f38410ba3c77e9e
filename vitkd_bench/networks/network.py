"""A ViT as methods and the engine see it: pixels in [0, 1] in, features out, attention read and replaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self, cast

import torch
from torch import Tensor, nn

from vitkd_bench.attention import AttentionCall, Tap
from vitkd_bench.contracts import Features
from vitkd_bench.contracts.taps import LOGITS, POOLED, blocks_of
from vitkd_bench.networks.watch import Watch, Wish
from vitkd_bench.spec import Architecture, BadInputError, PixelStats


class ViTNetwork(nn.Module):
    """A teacher or student around a bare ViT, ours or timm's (`contracts.Network`).

    A student gives logits and pooled at every forward. A teacher is `frozen`: in eval mode whatever is asked,
    without gradients, and it computes no further than what the taps name. With nothing but attention asked
    for it ends after the attention of the deepest block read.

    `module` is the bare network, whose state dict is what is stored. It needs `blocks`, each with an `attn`,
    and a `head` (`nn.Identity` where there is none).
    """

    def __init__(
        self, module: nn.Module, architecture: Architecture, pixels: PixelStats, *, frozen: bool = False
    ) -> None:
        super().__init__()
        if len(pixels.mean) != architecture.channels or len(pixels.std) != architecture.channels:
            raise BadInputError(
                f"pixels: {len(pixels.mean)} means and {len(pixels.std)} deviations "
                f"for a network of {architecture.channels} channels"
            )
        self.module = module
        self.architecture = architecture
        self.pixels = pixels
        self.frozen = frozen
        self.register_buffer("_mean", torch.tensor(pixels.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(pixels.std).view(1, -1, 1, 1), persistent=False)
        self._tap = Tap(self.blocks)
        self._watch = Watch(self.blocks, self._head)
        if frozen:
            self.requires_grad_(False)
            self.eval()

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """Its transformer blocks, in order."""
        return list(self.module.get_submodule("blocks").children())

    @property
    def has_head(self) -> bool:
        """Whether there are logits."""
        return isinstance(self._head, nn.Linear)

    @property
    def _head(self) -> nn.Module:
        return self.module.get_submodule("head")

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002  (torch's signature)
        """Switch training mode; a frozen network stays in eval mode."""
        return super().train(mode and not self.frozen)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Bring pixels (B, C, H, W) in [0, 1] to this network's mean and deviation.

        Raises:
            BadInputError: another shape than this network takes.
        """
        channels, side = self.architecture.channels, self.architecture.image_size
        if tuple(pixels.shape[1:]) != (channels, side, side):
            raise BadInputError(
                f"pixels {tuple(pixels.shape)} for a network that takes (B, {channels}, {side}, {side})"
            )
        return (pixels - self.get_buffer("_mean")) / self.get_buffer("_std")

    def forward(
        self,
        pixels: Tensor,
        taps: frozenset[str] = frozenset(),
        inject: Mapping[int, AttentionCall] | None = None,
    ) -> Features:
        """Run on (B, C, H, W) in [0, 1] and give what `taps` names (`contracts.taps`).

        `inject` maps a block to the attention call whose q, k, bias and scale it uses with its own values.
        What was read and injected is held until `clear`, since activation checkpointing needs it in the
        backward pass.

        Raises:
            BadInputError: an unknown tap, a block that does not exist, logits of a network without a head.
        """
        wish = self._wish(taps)
        if wish == Wish():
            return Features()
        self._tap.read(wish.attention)
        self._tap.replace(inject or {})
        seen = self._watch.run(self.module, self.normalise(pixels), wish)
        logits = seen.output if self.has_head else None
        return Features(logits, seen.pooled, self._tap.calls, seen.tokens)

    def clear(self) -> None:
        """Forget what the last forward read and injected."""
        self._tap.clear()

    def _wish(self, taps: frozenset[str]) -> Wish:
        depth = len(self.blocks)
        known = {LOGITS, POOLED, *(f"{kind}/{i}" for kind in ("attention", "tokens") for i in range(depth))}
        unknown = sorted(taps - known)
        if unknown:
            raise BadInputError(
                f"tap {unknown[0]!r}: this network has {LOGITS}, {POOLED}, attention/<i> and tokens/<i> "
                f"for blocks 0 to {depth - 1}"
            )
        if LOGITS in taps and not self.has_head:
            raise BadInputError(f"tap {LOGITS!r}: this network has no head")
        return Wish(
            attention=blocks_of(taps, "attention"),
            tokens=blocks_of(taps, "tokens"),
            pooled=not self.frozen or POOLED in taps,
            logits=LOGITS in taps or not self.frozen,
        )

    def __call__(
        self,
        pixels: Tensor,
        taps: frozenset[str] = frozenset(),
        inject: Mapping[int, AttentionCall] | None = None,
    ) -> Features:
        """Run `forward`, and whatever hooks stand around it."""
        return cast("Features", super().__call__(pixels, taps, inject))
