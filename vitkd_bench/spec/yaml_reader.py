"""The strict YAML reader: no duplicate keys, no YAML 1.1 surprises, a line number for every value."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from vitkd_bench.spec.errors import BadInputError


class Document(NamedTuple):
    """What a YAML file says, and on which line it says it."""

    data: Any
    lines: dict[tuple[Any, ...], int]
    path: Path


class _CoreLoader(yaml.SafeLoader):
    """YAML 1.2 core scalars only: `on`, `10:30`, dates and `0o7` stay text; `1e-3` is a number."""


_CoreLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|false|True|False", "tfTF"),
    ("null", r"null|~|", ["n", "~", ""]),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf)|\.(nan|NaN)",
        "-+.0123456789",
    ),
):
    _CoreLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first)
    )


def read_yaml(path: Path) -> Document:
    """Read one YAML file.

    Raises:
        BadInputError: the file is missing, is not YAML, has a key twice, or uses an unknown tag; with its
        line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return parse_yaml(text, path)


def parse_yaml(text: str, path: Path) -> Document:
    """Read YAML text; `path` is what errors name."""
    loader = _CoreLoader(text)
    lines: dict[tuple[Any, ...], int] = {}
    try:
        root = loader.get_single_node()
        data = None if root is None else _plain(loader, root, (), lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise BadInputError(f"{path}{line}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise BadInputError(f"{path}: not valid YAML: {error}") from None
    finally:
        loader.dispose()
    return Document(data, lines, path)


def _plain(
    loader: _CoreLoader, node: yaml.Node, at: tuple[Any, ...], lines: dict[tuple[Any, ...], int]
) -> Any:
    lines.setdefault(at, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(loader, child, (*at, i), lines) for i, child in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return loader.construct_object(node)
    mapping: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node)
        if not isinstance(key, str):
            raise yaml.MarkedYAMLError(
                problem=f"a key must be text, got {key!r}", problem_mark=key_node.start_mark
            )
        if key in mapping:
            raise yaml.MarkedYAMLError(problem=f"key {key!r} stands twice", problem_mark=key_node.start_mark)
        lines[(*at, key)] = key_node.start_mark.line + 1
        mapping[key] = _plain(loader, value_node, (*at, key), lines)
    return mapping
