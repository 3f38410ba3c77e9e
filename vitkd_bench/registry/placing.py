"""What every renaming of a file's tensors begins and ends with: rules of names, one tensor at one place."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeVar

from vitkd_bench.spec import BadInputError

Held = TypeVar("Held")


def placed(found: Iterable[tuple[str, str, Held]]) -> dict[str, Held]:
    """Put tensors at their places: of each its name in the file, its place in the network, and itself.

    Raises:
        BadInputError: two have the same place, of which one would be lost; both are named.
    """
    at: dict[str, Held] = {}
    came: dict[str, str] = {}
    for name, place, tensor in found:
        if place in at:
            raise BadInputError(
                f"two tensors for {place}: {came[place]} and {name}: a file has to hold the one that is meant"
            )
        at[place], came[place] = tensor, name
    return at


def by_rules(name: str, rules: Iterable[tuple[str, str]]) -> str:
    """Rename by the first pattern that fits the whole name, to its form (`re.Match.expand`); else keep it."""
    for pattern, form in rules:
        found = re.fullmatch(pattern, name)
        if found:
            return found.expand(form)
    return name
