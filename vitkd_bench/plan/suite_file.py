"""Finding and reading a suite: shipped by name or a file, with `include:` and overrides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitkd_bench.spec import BadInputError, Suite, nearest, parse_yaml, read_yaml

_PACKAGE = Path(__file__).resolve().parent.parent
SHIPPED = (_PACKAGE / "benchmarks", _PACKAGE.parent / "benchmarks")
"""Where shipped suites lie: inside an installed package, or beside it in a checkout."""


@dataclass(frozen=True, slots=True)
class SuiteFile:
    """A suite and the file that it was read from; relative paths are looked for beside that file."""

    suite: Suite
    path: Path
    lines: Mapping[tuple[Any, ...], int] = field(default_factory=dict)

    def place(self, *at: str | int) -> str:
        """Name a field for an error, `suite.yaml:12: teachers.0`; without the line where none is known."""
        line = next((self.lines[at[:n]] for n in range(len(at), 0, -1) if at[:n] in self.lines), None)
        return f"{self.path}{f':{line}' if line else ''}: {'.'.join(map(str, at))}"

    @property
    def folder(self) -> Path:
        """The folder of the file."""
        return self.path.parent


def shipped_suites() -> dict[str, Path]:
    """List the suites that come with the package, by name."""
    return {path.stem: path for folder in SHIPPED for path in sorted(folder.glob("*.yaml"))}


def find_suite(name_or_path: str) -> Path:
    """Find a suite by the name of a shipped one, or by its path.

    Raises:
        BadInputError: neither; with the nearest shipped name.
    """
    path = Path(name_or_path)
    if path.suffix in {".yaml", ".yml"} or path.is_file():
        if not path.is_file():
            raise BadInputError(f"suite {name_or_path}: no such file")
        return path
    shipped = shipped_suites()
    if name_or_path not in shipped:
        raise BadInputError(
            f"suite {name_or_path!r}: neither a file nor a shipped suite{nearest(name_or_path, shipped)}"
        )
    return shipped[name_or_path]


def read_suite(name_or_path: str, overrides: Sequence[str] = ()) -> SuiteFile:
    """Read and check a suite.

    Args:
        name_or_path: a shipped suite's name, or a file.
        overrides: `dotted.path=value` with the value as YAML, such as `recipe.epochs=3` or `seeds=[0]`.

    Raises:
        BadInputError: anything that is wrong with it, by file, line and field.
    """
    path = find_suite(name_or_path)
    data, lines = _read_with_includes(path, ())
    suite = Suite.parse(data, str(path), lines)
    for override in overrides:
        _override(data, override)
        suite = Suite.parse(data, f"{path} with --set {override}")
    changed = {override.partition("=")[0].split(".")[0] for override in overrides}
    return SuiteFile(suite, path, {at: line for at, line in lines.items() if at and at[0] not in changed})


def _read_with_includes(
    path: Path, seen: tuple[Path, ...]
) -> tuple[dict[str, Any], dict[tuple[Any, ...], int]]:
    document = read_yaml(path)
    if not isinstance(document.data, dict):
        raise BadInputError(f"{path}: a suite is a mapping of fields, got {type(document.data).__name__}")
    data, lines = dict(document.data), document.lines
    if "include" not in data:
        return data, lines
    included = data.pop("include")
    if not isinstance(included, str):
        raise BadInputError(f"{path}:{lines[('include',)]}: include: name one file")
    base = (path.parent / included).resolve()
    if base in seen:
        raise BadInputError(f"{path}:{lines[('include',)]}: include: {included} includes itself")
    below, below_lines = _read_with_includes(base, (*seen, path.resolve()))
    kept = {at: line for at, line in below_lines.items() if at and at[0] not in data}
    return {**below, **data}, {**kept, **lines}


def _override(data: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise BadInputError(f"--set {override!r}: write it as path=value, e.g. recipe.epochs=3")
    value = parse_yaml(text, Path(f"--set {dotted}")).data
    *parents, last = dotted.split(".")
    if parents == ["recipe"] and isinstance(data.get("recipe"), str):
        data["recipe"] = {"base": data["recipe"]}
    place: Any = data
    for name in parents:
        place = _step(place, name, override)
    if isinstance(place, list):
        _step(place, last, override)
        place[int(last)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise BadInputError(f"--set {override!r}: {'.'.join(parents)} is a single value")


def _step(place: Any, name: str, override: str) -> Any:
    if isinstance(place, dict) and name in place:
        return place[name]
    if isinstance(place, list) and name.isdigit() and int(name) < len(place):
        return place[int(name)]
    known = [
        str(key)
        for key in (place if isinstance(place, dict) else range(len(place) if isinstance(place, list) else 0))
    ]
    raise BadInputError(f"--set {override!r}: no {name!r} there{nearest(name, known)}")
