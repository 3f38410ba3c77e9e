"""The base of all descriptions: frozen, strict, every field known."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from vitkd_bench.spec.errors import BadInputError, nearest


class Frozen(BaseModel):
    """A description that cannot change, knows all of its fields, and holds finite numbers only."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        populate_by_name=True,
        protected_namespaces=(),
    )

    @classmethod
    def parse(cls, data: Any, where: str = "", lines: Mapping[tuple[Any, ...], int] | None = None) -> Self:
        """Check plain data (as JSON or YAML gives it) and build the description.

        Args:
            data: nested dicts, lists and scalars.
            where: the file or place that an error names.
            lines: line numbers by path inside `data`, where they are known.

        Raises:
            BadInputError: one line with file, line, field and what would work.
        """
        try:
            text = json.dumps(data)
        except TypeError as error:
            raise BadInputError(f"{where or cls.__name__}: not plain data: {error}") from None
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise BadInputError(_one_line(cls, error, where, lines or {})) from None

    def plain(self) -> dict[str, Any]:
        """Give all fields as plain JSON data."""
        return self.model_dump(mode="json", by_alias=True)

    def declared(self) -> dict[str, Any]:
        """Give the fields that differ from their default, so that a new setting does not rename old runs."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)


class Settings(Frozen):
    """Base of the settings of a method, a data set or any other entry."""


def validation_line(error: ValidationError) -> str:
    """Say in one line what is wrong with a description that Python code makes: class, field, reason."""
    models = [Frozen]
    for model in models:
        models += model.__subclasses__()
    named = next((model for model in models if model.__name__ == error.title), Frozen)
    return _one_line(named, error, error.title, {})


def _one_line(
    model: type[BaseModel], error: ValidationError, where: str, lines: Mapping[tuple[Any, ...], int]
) -> str:
    first = min(error.errors(include_url=False), key=_less_telling)
    path = tuple(part for part in first["loc"] if not _is_alternative(part))
    field = ".".join(str(part) for part in path)
    line = next((lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in lines), None)
    place = f"{where}:{line}" if where and line else where
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "unknown field" + nearest(str(path[-1]), _fields_at(model, path[:-1]))
    elif first["type"] == "missing":
        message = "this field is required"
    elif first["type"] in {"list_type", "tuple_type"}:
        message = f"a list is needed, such as [{first['input']}]"
    elif not isinstance(first["input"], dict | list):
        message = f"{message}, got {first['input']!r}"
    return ": ".join(part for part in (place, field, message) if part)


def _less_telling(error: Mapping[str, Any]) -> tuple[bool, bool]:
    """Put first what says most: an unknown field before a missing one, and of a mapping what is wrong in it.

    Where a text or a mapping may stand, a mapping is also told to be no text.
    """
    no_text = error["type"] == "string_type" and isinstance(error["input"], dict)
    return error["type"] != "extra_forbidden", no_text


def _is_alternative(part: int | str) -> bool:
    """Say whether a part of a path is pydantic's name for one of the types that may stand there."""
    return isinstance(part, str) and re.fullmatch(r"(constrained|function)-.*|[A-Z]\w*", part) is not None


def _fields_at(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """Names of the fields of the model that stands at `path` inside `model`."""
    for part in path:
        if isinstance(part, int):
            continue
        info = model.model_fields.get(str(part)) or next(
            (f for f in model.model_fields.values() if f.alias == part), None
        )
        inner = _model_in(info.annotation) if info else None
        if inner is None:
            return []
        model = inner
    return [info.alias or name for name, info in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_model_in(argument) for argument in getattr(annotation, "__args__", ()))
    return next((model for model in inner if model), None)
