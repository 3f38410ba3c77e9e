"""Networks without memory for their weights, until a file gives them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

_one_at_a_time = threading.RLock()


@contextmanager
def unfilled_parameters() -> Iterator[None]:
    """Put every parameter that this thread registers on the meta device; buffers are made as ever.

    Buffers are real because some are no part of a state dict (the relative position index of BEiT, the angles
    of a rotary embedding): on the meta device they would come out of loading as they lay in memory. No random
    number is drawn for a weight that a file replaces.
    """
    thread = threading.get_ident()
    with _one_at_a_time:  # two that overlap would put each other's patch back
        register = nn.Module.register_parameter

        def registered(module: nn.Module, name: str, param: nn.Parameter | None) -> None:
            if param is not None and not param.is_meta and threading.get_ident() == thread:
                param = nn.Parameter(param.to("meta"), requires_grad=param.requires_grad)
            register(module, name, param)

        patched: Any = nn.Module
        patched.register_parameter = registered
        try:
            yield
        finally:
            patched.register_parameter = register
