"""A ViT as methods and the engine see it: pixels in [0, 1] in, features out, attention read and replaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self, cast

import torch
from torch import Tensor, nn

from vitkd_bench.attention import AttentionCall, Tap
from vitkd_bench.contracts import Features
from vitkd_bench.contracts.taps import LOGITS, POOLED, blocks_of
from vitkd_bench.networks.anatomy import anatomy_of, pooled_and_logits
from vitkd_bench.networks.initialise import LawName
from vitkd_bench.networks.timm_names import timm_weights
from vitkd_bench.networks.vit import ViT
from vitkd_bench.networks.watch import Watch, Wish
from vitkd_bench.networks.widening import lift, widen_last_block
from vitkd_bench.spec import Architecture, BadInputError, PixelStats, WeightSource
from vitkd_bench.spec.teacher import Backend


class ViTNetwork(nn.Module):
    """A teacher or student around a bare ViT of ours, timm, open_clip or transformers (`contracts.Network`).

    A student gives logits and pooled at every forward. A teacher is `frozen`: in eval mode whatever is asked,
    without gradients, and it computes no further than what the taps name. With nothing but attention asked
    for it ends after the attention of the deepest block read.

    `module` is the bare network, whose state dict is what is stored; `networks.anatomy` knows where its parts
    are. `source` is the way by which a loaded teacher came, None for what was made here. Around a network
    with `nn.MultiheadAttention` torch's fast path, which no tap sees, is turned off for the whole process.
    """

    def __init__(
        self,
        module: nn.Module,
        architecture: Architecture,
        pixels: PixelStats,
        *,
        frozen: bool = False,
        source: WeightSource | None = None,
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
        self.source = source
        self.attached_head: nn.Module | None = None
        self.anatomy = anatomy_of(module)
        self.register_buffer("_mean", torch.tensor(pixels.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(pixels.std).view(1, -1, 1, 1), persistent=False)
        # not the blocks: transformers checkpoints within them, and what is recomputed has to be seen
        self._tap = Tap(block.get_submodule(self.anatomy.attention) for block in self.blocks)
        self._watch = Watch(module, self.anatomy)
        if any(isinstance(part, nn.MultiheadAttention) for part in module.modules()):
            torch.backends.mha.set_fastpath_enabled(False)
        if frozen:
            self.requires_grad_(False)
            self.eval()

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """Its transformer blocks, in order."""
        return self.anatomy.blocks_of(self.module)

    @property
    def backend(self) -> Backend | None:
        """Whose classes a loaded teacher is built of and whose names its file has; None for our own."""
        return self.source.backend if self.source else None

    @property
    def has_head(self) -> bool:
        """Whether there are logits."""
        return self.attached_head is not None or self._own_head

    @property
    def _own_head(self) -> bool:
        return isinstance(self.anatomy.head_of(self.module), nn.Linear)

    def attach_probe(self, weight: Tensor, bias: Tensor) -> None:
        """Take the logits from now on from a linear head (K, D), (K,) on the pooled features, frozen.

        Raises:
            BadInputError: a head for features of another width.
        """
        classes, width = weight.shape
        if width != self.architecture.size.width:
            raise BadInputError(f"a probe of width {width} on features of {self.architecture.size.width}")
        probe = nn.Linear(width, classes)
        probe.load_state_dict({"weight": weight.float(), "bias": bias.float()})
        self.attach_head(probe)

    def attach_head(self, head: nn.Module) -> None:
        """Take the logits from now on from `head`, which takes pooled features (B, D) to (B, K), frozen."""
        self.attached_head = head.requires_grad_(requires_grad=False).train(self.training)

    def weights(self) -> dict[str, Tensor]:
        """Give its weights by timm's names, whichever library it is of (`networks.timm_names`)."""
        return timm_weights(self.module, self.architecture)

    def widen(
        self,
        width: int,
        seed: int,
        law: LawName = "timm",
        *,
        last_block: bool,
        by_class_token: bool = False,
    ) -> None:
        """Let a student end in `width` channels: by a lift after its blocks, or in a wider last block.

        With `by_class_token` it decides by that token and no more by the mean of its patches.

        What is new is drawn from `seed` (`networks.widening`); the rest stays, optimisers made before do not
        know of it. `architecture` goes on to describe the student as it was.

        Raises:
            BadInputError: the last block's heads do not fit into `width`.
            TypeError: the network is a foreign one.
        """
        if not isinstance(self.module, ViT):
            raise TypeError(f"{type(self.module).__name__} is not ours, and cannot be widened")
        (widen_last_block if last_block else lift)(self.module, width, seed, law)
        self.module.by_class_token = by_class_token
        self._tap.remove()  # the hooks of the watch before do nothing outside a run of its own
        self._tap = Tap(block.get_submodule(self.anatomy.attention) for block in self.blocks)
        self._watch = Watch(self.module, self.anatomy)

    def checkpoint_blocks(self) -> None:
        """Recompute each block in the backward pass from now on: less memory for a third more work.

        Raises:
            TypeError: the network is a foreign one.
        """
        if not isinstance(self.module, ViT):
            raise TypeError(f"{type(self.module).__name__} is not ours, and has checkpointing of its own")
        self.module.checkpointing = True

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
        pooled, logits = seen.pooled, None
        if seen.output is not None:
            given, logits = pooled_and_logits(seen.output, head=self._own_head)
            pooled = given if pooled is None else pooled
        if self.attached_head is not None and LOGITS in taps and pooled is not None:
            logits = self.attached_head(pooled)
        return Features(logits, pooled, self._tap.calls, seen.tokens)

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
            pooled=not self.frozen or POOLED in taps or (LOGITS in taps and self.attached_head is not None),
            logits=(LOGITS in taps and self.attached_head is None) or not self.frozen,
        )

    def __call__(
        self,
        pixels: Tensor,
        taps: frozenset[str] = frozenset(),
        inject: Mapping[int, AttentionCall] | None = None,
    ) -> Features:
        """Run `forward`, and whatever hooks stand around it."""
        return cast("Features", super().__call__(pixels, taps, inject))
