"""Settings that a suite may give: for people a row each, for scripts plain data."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from vitkd_bench.cli.console import show, show_table

if TYPE_CHECKING:
    from pydantic import BaseModel

REQUIRED = "has to be given"
WORDS = {str: "text", int: "whole number", float: "number", bool: "true | false"}


def show_settings(model: type[BaseModel]) -> None:
    """Print a row for each setting: default, what it may be, what it means; those to be given come first."""
    rows = [
        (
            name,
            REQUIRED if field.is_required() else _told(field.get_default()),
            may_be(field.annotation),
            field.description,
        )
        for name, field in sorted(model.model_fields.items(), key=lambda one: not one[1].is_required())
    ]
    if rows:
        show_table(("setting", "default", "may be", "what it is"), rows)
    else:
        show("no settings")


def plain_settings(model: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """Give by name whether a setting has to be given, its default, what it may be, what it means."""
    return {
        name: {
            "required": field.is_required(),
            "default": None if field.is_required() else plain(field.get_default()),
            "may_be": may_be(field.annotation),
            "description": field.description,
        }
        for name, field in model.model_fields.items()
    }


def defaults(model: type[BaseModel]) -> dict[str, Any]:
    """Give the defaults by name, None where there is none."""
    fields = model.model_fields.items()
    return {name: None if field.is_required() else field.get_default() for name, field in fields}


def plain(value: Any) -> Any:
    """Give a default as JSON can hold it."""
    if hasattr(value, "declared"):
        return value.declared()
    return value if isinstance(value, str | int | float | bool | list | tuple | None) else str(value)


def may_be(annotation: Any) -> str:
    """Say what a field may be: `number`, `once | anew`, `list of text`, `mapping`."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return may_be(inner[0])
    if origin is Literal:
        return " | ".join(map(str, inner))
    if origin in {Union, UnionType}:
        return " | ".join(may_be(one) for one in inner if one is not NoneType)
    if origin is tuple:
        return f"list of {may_be(inner[0])}"
    return WORDS.get(annotation, "mapping")


def _told(value: Any) -> Any:
    """A mapping as a suite writes it, the rest as it is."""
    if not hasattr(value, "declared"):
        return value
    return "{" + ", ".join(f"{key}: {one}" for key, one in value.declared().items()) + "}"
