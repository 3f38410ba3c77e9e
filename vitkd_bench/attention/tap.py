"""The tap: reads and replaces the attention of a network's blocks."""

from __future__ import annotations

import copy
import itertools
import operator
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from vitkd_bench.attention.call import AttentionCall
from vitkd_bench.attention.interception import install, stack
from vitkd_bench.attention.visit import Replacement, Visit, stale_recomputation

_tokens = itertools.count(1)


class Tap:
    """Reads and replaces the attention of a network's blocks.

    One tap a network. `blocks` are its transformer blocks in order; each must make one call of
    ``torch.nn.functional.scaled_dot_product_attention`` in its forward. What is not armed costs nothing. The
    hooks leave the network's state dict alone; a copied or unpickled network is not tapped, and a copied tap
    is a fresh one on the copied blocks.

    Activation checkpointing: what was armed must stay so until backward has run. The recomputation then sees
    the same replacement and leaves alone what was read. ``use_reentrant=True`` is refused; a recomputation
    that would see another replacement than its forward raises in backward. Where checkpoints lie inside the
    blocks (transformers puts them there) the hooks do not see the recomputation: reading is right, replacing
    raises in backward.

    Raises:
        ValueError: no blocks, a block twice or inside another, or a block that has a tap already.
    """

    def __init__(self, blocks: Iterable[nn.Module]) -> None:
        self.blocks: Sequence[nn.Module] = tuple(blocks)
        _refuse(self.blocks)
        install()
        self._reading: frozenset[int] = frozenset()
        self._replacing: dict[int, Replacement] = {}
        self._calls: dict[int, AttentionCall] = {}
        self._reader = 0  # the thread whose forward filled `_calls`
        self._unproven: dict[int, int] = {}  # the token of a block's last forward, until it is recomputed
        handles = [handle for index, block in enumerate(self.blocks) for handle in _hook(self, index, block)]
        self._taking_away = weakref.finalize(self, _take_away, handles)
        self._taking_away.atexit = False

    def read(self, layers: Iterable[int]) -> None:
        """Read these blocks in the forwards that follow, and no others; forget what was read before.

        Where a block is both read and replaced, its own q, k and bias are read.

        Raises:
            ValueError: a layer that the network does not have.
        """
        self._reading = self._checked(layers)
        self._forget()

    def replace(self, calls: Mapping[int, AttentionCall]) -> None:
        """Use q, k, bias and scale of these calls in these blocks, and no others, in the forwards to come.

        Values and attention dropout stay the network's own. A causal mask of its own gives way to the bias
        given. A `PartialCall` says otherwise which parts, in which heads, stand in for the block's own; an
        `AveragedCall` has several heads for each of the block's.

        Raises:
            ValueError: a layer that the network does not have.
        """
        self._checked(calls)
        self._leave_all()
        self._replacing = {operator.index(i): Replacement(call, next(_tokens)) for i, call in calls.items()}

    @property
    def calls(self) -> dict[int, AttentionCall]:
        """What the last forward read, by block; gradients flow into q, k and bias.

        Raises:
            RuntimeError: a block armed for reading has not run, or not to the end of its attention.
        """
        missing = sorted(self._reading - self._calls.keys())
        if missing:
            raise RuntimeError(
                f"no attention was read in blocks {missing}: armed, but not reached by a forward since"
            )
        return dict(self._calls)

    def clear(self) -> None:
        """Disarm, and forget what was read and given. After backward, where activations are checkpointed."""
        self._reading = frozenset()
        self._replacing = {}
        self._forget()

    def remove(self) -> None:
        """Clear, and take the hooks away; the tap is of no use afterwards."""
        self.clear()
        self._taking_away()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Tap the copied blocks afresh; nothing is armed."""
        return type(self)([_deepcopied(block, memo) for block in self.blocks])

    def __reduce__(self) -> tuple[type[Self], tuple[Sequence[nn.Module]]]:
        return type(self), (self.blocks,)

    def _forget(self) -> None:
        self._calls = {}
        self._leave_all()

    def _leave_all(self) -> None:
        """Drop visits that an interrupt, which runs no hooks, has left on this thread's stack."""
        stack.visitors[:] = [visit for visit in stack.visitors if visit.owner is not self]

    def _checked(self, layers: Iterable[int]) -> frozenset[int]:
        checked = frozenset(operator.index(layer) for layer in layers)
        depth = len(self.blocks)
        for layer in sorted(checked):
            if not 0 <= layer < depth:
                raise ValueError(
                    f"layer {layer} is asked of a network of {depth} blocks: they count from 0 to {depth - 1}"
                )
        return checked

    def _enter(self, index: int, block: nn.Module) -> None:
        """Stand on the stack while this block's forward runs, if it is armed."""
        if not (self._reading or self._replacing or any(self._unproven.values())):
            return
        replacement = self._replacing.get(index)
        recomputed = torch._C._current_graph_task_id() != -1  # noqa: SLF001  (as torch.utils.checkpoint asks)
        self._prove(index, replacement, recomputed=recomputed)
        if replacement is None and index not in self._reading:
            return
        _refuse_copy(index, block, self.blocks[index])
        keep = self._keep if index in self._reading and not recomputed else None
        self._leave_all()  # blocks of one tap do not nest
        stack.visitors.append(Visit(self, index, replacement, keep))

    def _leave(self, index: int, *, failed: bool) -> None:
        visitors = stack.visitors
        if not visitors or visitors[-1].owner is not self or visitors[-1].index != index:
            return
        if not visitors.pop().calls and not failed:
            raise RuntimeError(_no_call(index, self.blocks[index]))

    def _prove(self, index: int, replacement: Replacement | None, *, recomputed: bool) -> None:
        """Refuse a recomputation that can be known to see another replacement than its forward.

        The stamp on the values finds every such case, but torch's own check of the recomputation comes first
        where the replacement is gone, and says less about what to do.
        """
        token = replacement.token if replacement else 0
        if recomputed:
            if self._unproven.pop(index, 0) and not token:
                raise RuntimeError(stale_recomputation(index))
        elif torch.is_grad_enabled():
            self._unproven[index] = token

    def _keep(self, index: int, call: AttentionCall) -> None:
        """Add to what this forward has read; a block that is there already begins the next forward."""
        thread = threading.get_ident()
        if not self._calls or index in self._calls:
            self._calls, self._reader = {}, thread
        elif self._reader != thread:
            raise RuntimeError(
                f"block {index} is read in two threads at once: give each its own copy of the network"
            )
        self._calls[index] = call


class _Hook:
    """A hook that a copied or unpickled network carries along without effect."""

    def __init__(self, tap: Tap | None, index: int) -> None:
        self.tap = (lambda: None) if tap is None else weakref.ref(tap)
        self.index = index

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)(None, self.index)

    def __reduce__(self) -> tuple[type[Self], tuple[None, int]]:
        return type(self), (None, self.index)


class _Enter(_Hook):
    """Runs before a block's forward."""

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, block: nn.Module, args: tuple[Any, ...]) -> None:
        """Tell the tap that the block begins."""
        tap = self.tap()
        if tap is not None:
            tap._enter(self.index, block)  # noqa: SLF001  (the tap's own hook)


class _Leave(_Hook):
    """Runs after a block's forward, also after a failed one, whose result is None."""

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, block: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        """Tell the tap that the block has ended."""
        tap = self.tap()
        if tap is not None:
            tap._leave(self.index, failed=result is None)  # noqa: SLF001


def _hook(tap: Tap, index: int, block: nn.Module) -> list[RemovableHandle]:
    return [
        block.register_forward_pre_hook(_Enter(tap, index)),
        block.register_forward_hook(_Leave(tap, index), always_call=True),
    ]


def _take_away(handles: list[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()


def _deepcopied(block: nn.Module, memo: dict[int, Any]) -> nn.Module:
    copied: nn.Module = copy.deepcopy(block, memo)
    return copied


def _refuse(blocks: Sequence[nn.Module]) -> None:
    if not blocks:
        raise ValueError("a tap needs at least one block")
    known = {id(block): index for index, block in enumerate(blocks)}
    if len(known) != len(blocks):
        raise ValueError("a block is given twice: blocks that share their weights cannot be told apart")
    for index, block in enumerate(blocks):
        inner = [known[id(m)] for m in block.modules() if m is not block and id(m) in known]
        if inner:
            raise ValueError(
                f"block {inner[0]} lies inside block {index}: a tap takes blocks that follow one another"
            )
        if any(isinstance(hook, _Enter) and hook.tap() for hook in block._forward_pre_hooks.values()):  # noqa: SLF001
            raise ValueError(f"block {index} has a tap already: use that one, or remove() it first")


def _refuse_copy(index: int, running: nn.Module, tapped: nn.Module) -> None:
    if running is not tapped:
        raise RuntimeError(
            f"a shallow copy of the armed block {index} is running (nn.DataParallel makes such): copy the "
            "network with copy.deepcopy and tap the copy"
        )


def _no_call(index: int, block: nn.Module) -> str:
    return (
        f"block {index} ({type(block).__name__}) made no call of scaled_dot_product_attention, so its "
        "attention can be neither read nor replaced. Unfused attention makes none: in timm, call "
        "timm.layers.set_fused_attn(True) before the network is built, or set fused_attn on its attention "
        "layers; in transformers, ask for attn_implementation='sdpa'; with nn.MultiheadAttention, pass "
        "need_weights=False and, in eval mode, call torch.backends.mha.set_fastpath_enabled(False)"
    )
