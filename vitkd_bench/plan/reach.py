"""Blocks and heads that a suite names and no network of it has."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from vitkd_bench.methods._layers import Choice, blocks_of, heads_of
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import BadInputError, Settings, Size, Suite, resolve_student

_OF: Mapping[str, tuple[Callable[[Choice, int], tuple[int, ...]], str, str]] = {
    "layers": (blocks_of, "depth", "blocks"),
    "heads": (heads_of, "heads", "heads"),
}


def check_reach(config: Settings, suite: Suite, where: str) -> None:
    """Hold the settings `layers` and `heads` of a method against the largest network of the suite.

    What is too much for some networks only is a refusal of their cells, with a row in the report.

    Raises:
        BadInputError: no teacher and no student has such a block or head; `where` is what it opens with.
    """
    given: dict[str, Any] = {name: getattr(config, name) for name in _OF if hasattr(config, name)}
    if not any(_names_some(choice) for choice in given.values()):
        return
    sizes = _sizes(suite)
    for name, choice in given.items():
        numbers, of, noun = _OF[name]
        most = max(getattr(size, of) for size in sizes)
        try:
            numbers(choice if _names_some(choice) else "all", most)
        except BadInputError:
            asked = choice if isinstance(choice, str) else list(choice)
            raise BadInputError(
                f"{where}: {name}: {asked} reach beyond every network of this suite, whose largest has "
                f"{most} {noun} (0 to {most - 1})"
            ) from None


def _names_some(choice: object) -> bool:
    """Say whether a setting names some in the grammar of methods here; a stranger's may be another."""
    return isinstance(choice, tuple) or (isinstance(choice, str) and choice.startswith(("first:", "last:")))


def _sizes(suite: Suite) -> list[Size]:
    teachers = [TEACHERS.get(entry.name).architecture for entry in suite.teachers]
    pairs = itertools.product(suite.students, teachers)
    students = [resolve_student(student, teacher) for student, teacher in pairs]
    return [architecture.size for architecture in (*teachers, *students)]
