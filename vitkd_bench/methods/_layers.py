"""Which blocks and heads a method works on: `all`, `first:k`, `last:k`, or a list of numbers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated

from pydantic import BeforeValidator

from vitkd_bench.spec import BadInputError

_SHARE = re.compile(r"(first|last):([1-9][0-9]*)")
Choice = str | tuple[int, ...]


def _checker(noun: str) -> Callable[[object], Choice]:
    """Make the check of a setting's form: `noun` is what it numbers."""
    grammar = f"'all', 'first:k', 'last:k' with k of at least 1, or a list of {noun} numbers from 0"

    def checked(value: object) -> Choice:
        if isinstance(value, str) and (value == "all" or _SHARE.fullmatch(value)):
            return value
        if not isinstance(value, list | tuple) or not value:
            raise ValueError(f"expected {grammar}")
        if any(type(number) is not int or number < 0 for number in value):
            raise ValueError(
                f"{noun} numbers are whole and count from 0; expected {grammar}, got {list(value)}"
            )
        if len(set(value)) < len(value):
            raise ValueError(f"each {noun} once, got {list(value)}")
        return tuple(value)

    return checked


Layers = Annotated[Choice, BeforeValidator(_checker("block"))]
"""A setting that names blocks; its form is checked when read, its fit to a depth by `blocks_of`."""
Heads = Annotated[Choice, BeforeValidator(_checker("head"))]
"""A setting that names heads, the same ones in every block; its fit is checked by `heads_of`."""


def blocks_of(layers: Choice, depth: int) -> tuple[int, ...]:
    """Give the numbers of the blocks that `layers` names in a network of `depth` blocks, ascending from 0.

    Raises:
        BadInputError: a block beyond the depth is named.
    """
    return _numbers(layers, depth, "layers", "blocks")


def heads_of(heads: Choice, count: int) -> tuple[int, ...]:
    """Give the numbers of the heads that `heads` names in a network of `count` heads, ascending from 0.

    Raises:
        BadInputError: a head beyond them is named.
    """
    return _numbers(heads, count, "heads", "heads")


def _numbers(choice: Choice, count: int, setting: str, noun: str) -> tuple[int, ...]:
    if choice == "all":
        return tuple(range(count))
    share = _SHARE.fullmatch(choice) if isinstance(choice, str) else None
    wanted = int(share[2]) if share else max(int(number) for number in choice) + 1
    if wanted > count:
        asked = choice if isinstance(choice, str) else list(choice)
        raise BadInputError(f"{setting} {asked} reach beyond the network's {count} {noun} (0 to {count - 1})")
    if share is None:
        return tuple(sorted(int(number) for number in choice))
    return tuple(range(wanted)) if share[1] == "first" else tuple(range(count - wanted, count))


def paired_blocks(layers: Choice, student: int, teacher: int) -> dict[int, int]:
    """Pair blocks of a student of depth `student` with blocks of a teacher of depth `teacher`.

    `layers` names blocks of the student. Block i meets the teacher's block that ends at the same share of the
    depth, rounded down: (i + 1) x teacher // student - 1, and at least the first; equal depths pair i with i.

    Raises:
        BadInputError: a block beyond the student's depth is named.
    """
    return {i: max(0, (i + 1) * teacher // student - 1) for i in blocks_of(layers, student)}
