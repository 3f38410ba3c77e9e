"""What happens to the attention of an armed block while its forward runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from vitkd_bench.attention.call import Arguments, AttentionCall
from vitkd_bench.attention.copying import copied_attention
from vitkd_bench.attention.interception import untapped
from vitkd_bench.attention.stand_ins import completed, fits, heads_averaged


@dataclass(frozen=True, slots=True, eq=False)
class Replacement:
    """A call that stands in for a block's own (`stand_ins`); each arming has a token of its own."""

    call: AttentionCall
    token: int


@dataclass(slots=True, eq=False)
class Visit:
    """One forward of one armed block; `keep` takes what is read, None reads nothing."""

    owner: object
    index: int
    replacement: Replacement | None
    keep: Callable[[int, AttentionCall], None] | None
    calls: int = field(default=0, init=False)

    def attend(self, *args: Any, **kwargs: Any) -> Tensor:
        """Answer the block's call of ``scaled_dot_product_attention``, whose arguments these are."""
        asked = Arguments(*args, **kwargs)
        self._count(asked)
        self._refuse_reentrant()
        if self.keep is not None:
            self.keep(self.index, asked.resolve())
        if self.replacement is None:
            return untapped(*args, **kwargs)
        return self._replaced(asked, self.replacement)

    def _count(self, asked: Arguments) -> None:
        self.calls += 1
        if self.calls > 1:
            raise RuntimeError(
                f"block {self.index} calls scaled_dot_product_attention more than once: which of its "
                "attentions is meant is unknown, so none can be read or replaced"
            )
        if asked.query.dim() != 4:
            raise RuntimeError(
                f"block {self.index} attends with a query of shape {tuple(asked.query.shape)}: a tapped "
                "block needs (batch, heads, tokens, width)"
            )

    def _refuse_reentrant(self) -> None:
        """Refuse a forward whose graph is made in backward: what is read in it would get no gradient."""
        if not torch.is_grad_enabled() and _inside("CheckpointFunction.forward"):
            raise RuntimeError(
                f"block {self.index} is armed inside torch.utils.checkpoint with use_reentrant=True, whose "
                "forward has no graph: use use_reentrant=False (in timm set_reentrant_ckpt(False))"
            )

    def _replaced(self, asked: Arguments, replacement: Replacement) -> Tensor:
        own, given = asked.resolve(), replacement.call
        if not fits(given, own):
            ours, theirs = tuple(own.q.shape[:3]), tuple(given.q.shape[:3])
            raise ValueError(
                f"block {self.index} cannot use the attention given for it: (batch, heads, tokens) are "
                f"{ours} in the network and {theirs} in what was given"
            )
        call = completed(given, own)
        value = call.v
        if torch.is_grad_enabled():
            value = _stamped(value, replacement.token, self.index)
        return heads_averaged(copied_attention(call, value, asked.dropout_p), own.q.shape[1])


class _Stamp(torch.autograd.Function):
    """An identity that notices in backward when a recomputation had another replacement than the forward.

    The token is kept twice: on the node, which belongs to the forward, and as a saved tensor, which
    activation checkpointing drops and makes anew in its recomputation. The anchor makes the node part of the
    graph even where the values need no gradient and only what follows them does.
    """

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, value: Tensor, token: int, index: int) -> Tensor:
        ctx.token, ctx.index = token, index
        ctx.save_for_backward(torch.tensor(token, device="cpu"))
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None, None]:
        (seen,) = ctx.saved_tensors
        if seen.shape != () or seen.dtype != torch.int64 or int(seen) != ctx.token:
            raise RuntimeError(stale_recomputation(ctx.index))
        return None, grads[0], None, None


def _inside(name: str) -> bool:
    """Look for a function of this name, torch's or another library's, among the callers."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001  (inspect.stack reads source files)
    while frame is not None and frame.f_code.co_qualname != name:
        frame = frame.f_back
    return frame is not None


def _stamped(value: Tensor, token: int, index: int) -> Tensor:
    anchor = torch.zeros((), device="cpu", requires_grad=True)
    stamped: Tensor = _Stamp.apply(anchor, value, token, index)  # type: ignore[no-untyped-call]
    return stamped


def stale_recomputation(index: int) -> str:
    """Say what went wrong when a block is recomputed with another replacement than its forward had."""
    return (
        f"block {index} is recomputed in backward (activation checkpointing) with another replacement than "
        "its forward had: call clear() or replace() only after backward, and run backward before the next "
        "replacement"
    )
