"""The one place where attention is intercepted: ``torch.nn.functional.scaled_dot_product_attention``.

The function is replaced once in the process and never restored: patching around a forward runs the wrong
function when activation checkpointing repeats that forward in backward. What stands there passes every call
through, unless a visitor (an armed block during its forward) is on top of this thread's stack.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F


class Visitor(Protocol):
    """Somebody who wants this thread's next call of attention."""

    def attend(self, *args: Any, **kwargs: Any) -> Tensor:
        """Answer the call; the arguments are those of ``scaled_dot_product_attention``."""


class _Stack(threading.local):
    """The visitors of one thread, innermost last."""

    def __init__(self) -> None:
        self.visitors: list[Any] = []


stack = _Stack()
_lock = threading.Lock()
_found: list[Callable[..., Tensor]] = []  # what stood there before, once installed


def untapped(*args: Any, **kwargs: Any) -> Tensor:
    """Call attention as it was before the interception: the arguments of ``scaled_dot_product_attention``."""
    attention = _found[0] if _found else F.scaled_dot_product_attention
    return attention(*args, **kwargs)


# a compiled network leaves its graph here, so that what is armed is asked
@torch.compiler.disable  # type: ignore[untyped-decorator]
def tapped(*args: Any, **kwargs: Any) -> Tensor:
    """Stand in for ``scaled_dot_product_attention``: ask the innermost visitor, or pass through."""
    if not stack.visitors:
        return untapped(*args, **kwargs)
    visitor: Visitor = stack.visitors[-1]
    return visitor.attend(*args, **kwargs)


@contextmanager
def visiting(visitor: Visitor) -> Iterator[None]:
    """Let `visitor` answer this thread's calls of attention, all of them and not only those of one block."""
    install()
    stack.visitors.append(visitor)
    try:
        yield
    finally:
        stack.visitors.remove(visitor)


def install() -> None:
    """Put `tapped` in its place, unless it stands there already.

    Where somebody has wrapped it since, theirs stays: it calls `tapped`. Where somebody has put the original
    back (a test's monkeypatch, say), `tapped` is put in its place again.
    """
    with _lock:
        standing = F.scaled_dot_product_attention
        if standing is not tapped and (not _found or standing is _found[0]):
            _found[:] = [standing]
            F.scaled_dot_product_attention = tapped
