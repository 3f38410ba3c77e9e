"""What losses compute in: float32 or better, whatever the networks run in."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, cast

import torch
from torch import Tensor

Arguments = ParamSpec("Arguments")


def at_least_single(tensor: Tensor) -> Tensor:
    """Bring a floating-point tensor of any shape to float32 or better.

    Squares of features leave the range of half precision, and the small constants that guard a division are
    0 in it.
    """
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def in_full_precision(loss: Callable[Arguments, Tensor]) -> Callable[Arguments, Tensor]:
    """Run a loss on float32 or better, with autocast off.

    A difference of two Gram matrices, or a distance of near neighbours, does not survive eight bits of
    mantissa.
    """

    @functools.wraps(loss)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Tensor:
        first = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        wide_kwargs = {name: _widened(value) for name, value in kwargs.items()}
        with torch.autocast(first.device.type, enabled=False):
            found: Tensor = cast("Any", loss)(*map(_widened, args), **wide_kwargs)
            return found

    return run


def _widened(value: object) -> object:
    return at_least_single(value) if isinstance(value, Tensor) and value.is_floating_point() else value
