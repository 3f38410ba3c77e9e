"""What a method says of itself: its entry and its settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import get_args

from pydantic.fields import FieldInfo

from vitkd_bench.diagnose.method_bench import Bench
from vitkd_bench.spec import Settings

SOURCE = r"arXiv:\d{4}\.\d{4,5}|doi:\S+|https?://\S+|\b(19|20)\d\d\b|\bour own\b"
"""What names a paper: its arXiv number, a DOI, an address, a venue with its year, or that it is our own."""

LOWER, UPPER = ("ge", "gt"), ("le", "lt")


def facts_are_told(bench: Bench) -> Iterator[str]:
    """Name, title, paper and budget are told, every setting is described, bounded and has a default."""
    entry = bench.entry
    if not re.fullmatch(r"[a-z][a-z0-9_]*", entry.name):
        yield f"name {entry.name!r}: lower case, digits and _ are needed"
    empty = [fact for fact in ("title", "paper", "budget") if not getattr(entry, fact).strip()]
    if empty:
        yield f"{', '.join(empty)}: empty"
    if entry.paper and not re.search(SOURCE, entry.paper):
        yield f"paper {entry.paper!r}: arXiv:<id>, doi:<id>, an address, a venue with its year, or 'our own'"
    if not (entry.method.__doc__ or "").strip():
        yield f"class {entry.method.__name__}: no docstring says what its loss is"
    if entry.version < 1:
        yield f"version {entry.version}: counts from 1"
    yield from _settings(entry.method.Config)


def _settings(config: type[Settings]) -> Iterator[str]:
    for name, field in config.model_fields.items():
        if field.is_required():
            yield f"setting {name}: no default, and a suite may name the method alone"
        if not (field.description or "").strip():
            yield f"setting {name}: no description"
        if is_number(field) and not bounds(field):
            yield f"setting {name}: a number without a bound (ge, gt, le or lt)"
    if all(not field.is_required() for field in config.model_fields.values()):
        defaults = config()
        if config.parse(defaults.plain(), "settings") != defaults or defaults.declared():
            yield "settings: the defaults are others once they are written and read"


def is_number(field: FieldInfo) -> bool:
    """Say whether a setting is a number, or a number or None."""
    kinds = {field.annotation, *get_args(field.annotation)}
    return bool(kinds & {int, float}) and kinds <= {field.annotation, int, float, type(None)}


def bounds(field: FieldInfo) -> set[str]:
    """Name the bounds of a setting: some of ge, gt, le, lt."""
    return {name for held in field.metadata for name in (*LOWER, *UPPER) if hasattr(held, name)}
