"""Reads tokens and the pooled representation of a running network; stops it at the last one asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn

from vitkd_bench.networks.anatomy import Anatomy


@dataclass(frozen=True, slots=True)
class Wish:
    """What one forward is asked for; only `logits` and `pooled` take it beyond the deepest block read."""

    attention: tuple[int, ...] = ()
    tokens: tuple[int, ...] = ()
    pooled: bool = False
    logits: bool = False

    @property
    def last_attention(self) -> int | None:
        """The block after whose attention all is known, if no later part is asked for."""
        if self.logits or self.pooled or not self.attention:
            return None
        return self.attention[-1] if self.attention[-1] > max(self.tokens, default=-1) else None

    @property
    def last_tokens(self) -> int | None:
        """The block at whose end all is known, if no later part is asked for."""
        if self.logits or self.pooled or not self.tokens or self.last_attention is not None:
            return None
        return self.tokens[-1]


class EnoughError(Exception):
    """Leaves a forward that has given all that is asked."""


@dataclass
class Seen:
    """What one forward gave: the module's own output if it came to its end, and what was read on the way."""

    output: Any = None
    pooled: Tensor | None = None
    tokens: dict[int, Tensor] = field(default_factory=dict)


class Watch:
    """Hooks on the blocks, on their attention and on the head of a network, where `anatomy` says they are.

    They stay in place and do nothing outside `run`: a block recomputed in backward, or a part called on its
    own, is none of theirs. Hooks are bound methods, so that a deep copy of the network watches the copy.
    """

    def __init__(self, module: nn.Module, anatomy: Anatomy) -> None:
        self._wish = Wish()
        self._seen: Seen | None = None
        for index, block in enumerate(anatomy.blocks_of(module)):
            attention = block.get_submodule(anatomy.attention)
            attention.register_forward_hook(partial(self._attended, index))
            batch_first = getattr(attention, "batch_first", True)
            block.register_forward_hook(partial(self._left, index, 0 if batch_first else 1))
        head = anatomy.head_of(module)
        if head is not None:
            head.register_forward_pre_hook(self._pooled)

    def run(self, module: nn.Module, pixels: Tensor, wish: Wish) -> Seen:
        """Run `module` on normalised pixels, as far as `wish` needs."""
        seen = self._seen = Seen()
        self._wish = wish
        try:
            seen.output = module(pixels)
        except EnoughError:
            pass
        finally:
            self._seen = None
        return seen

    def _attended(self, index: int, *_: Any) -> None:
        if self._seen is not None and index == self._wish.last_attention:
            raise EnoughError

    def _left(
        self,
        index: int,
        batch: int,
        module: nn.Module,
        args: tuple[Any, ...],
        out: Tensor,
    ) -> None:
        if self._seen is None:
            return
        if index in self._wish.tokens:
            self._seen.tokens[index] = out.transpose(0, batch)
        if index == self._wish.last_tokens:
            raise EnoughError

    def _pooled(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if self._seen is None:
            return
        self._seen.pooled = args[0]
        if not self._wish.logits:
            raise EnoughError
