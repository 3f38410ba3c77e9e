"""Which blocks a method works on: `all`, `first:k`, `last:k`, or a list of block numbers."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator

from vitkd_bench.spec import BadInputError

_SHARE = re.compile(r"(first|last):([1-9][0-9]*)")
_GRAMMAR = "'all', 'first:k', 'last:k' with k of at least 1, or a list of block numbers from 0"


def _checked(value: object) -> str | tuple[int, ...]:
    if isinstance(value, str) and (value == "all" or _SHARE.fullmatch(value)):
        return value
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"expected {_GRAMMAR}")
    if any(type(block) is not int or block < 0 for block in value):
        raise ValueError(f"block numbers are whole and count from 0; expected {_GRAMMAR}, got {list(value)}")
    if len(set(value)) < len(value):
        raise ValueError(f"each block once, got {list(value)}")
    return tuple(value)


Layers = Annotated[str | tuple[int, ...], BeforeValidator(_checked)]
"""A setting that names blocks; its form is checked when read, its fit to a depth by `blocks_of`."""


def blocks_of(layers: str | tuple[int, ...], depth: int) -> tuple[int, ...]:
    """Give the numbers of the blocks that `layers` names in a network of `depth` blocks, ascending from 0.

    Raises:
        BadInputError: a block beyond the depth is named.
    """
    if layers == "all":
        return tuple(range(depth))
    share = _SHARE.fullmatch(layers) if isinstance(layers, str) else None
    wanted = int(share[2]) if share else max(int(block) for block in layers) + 1
    if wanted > depth:
        asked = layers if isinstance(layers, str) else list(layers)
        raise BadInputError(f"layers {asked} reach beyond the network's {depth} blocks (0 to {depth - 1})")
    if share is None:
        return tuple(sorted(int(block) for block in layers))
    return tuple(range(wanted)) if share[1] == "first" else tuple(range(depth - wanted, depth))


def paired_blocks(layers: str | tuple[int, ...], student: int, teacher: int) -> dict[int, int]:
    """Pair blocks of a student of depth `student` with blocks of a teacher of depth `teacher`.

    `layers` names blocks of the student. Block i meets the teacher's block that ends at the same share of the
    depth, rounded down: (i + 1) x teacher // student - 1, and at least the first; equal depths pair i with i.

    Raises:
        BadInputError: a block beyond the student's depth is named.
    """
    return {i: max(0, (i + 1) * teacher // student - 1) for i in blocks_of(layers, student)}
