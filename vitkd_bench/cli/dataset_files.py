"""Where the commands on data sets look for files, and what settings they give a data set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitkd_bench.registry import DatasetEntry


def roots_of(data_root: Path | None) -> tuple[Path, ...]:
    """List the data roots: `data_root`, then `$VITKD_DATA`; without what `api` imports for the same.

    Raises:
        BadInputError: `data_root` is no folder.
    """
    refuse_no_folder("--data-root", data_root)
    named = os.environ.get("VITKD_DATA")
    return tuple(path.resolve() for path in (data_root, Path(named) if named else None) if path is not None)


def given(
    entry: DatasetEntry, overrides: Sequence[str], root: Path | None, data_root: Path | None
) -> tuple[dict[str, Any], tuple[Path, ...]]:
    """Give the settings and the roots of a data set; the folder of this process is a root too, the last one.

    `root` may be the folder of the data set or one that holds it.

    Raises:
        BadInputError: a folder that is none, or an override that is not `setting=value`.
    """
    from vitkd_bench.spec import alternatives

    settings, roots = settings_of(overrides), (*roots_of(data_root), Path.cwd())
    if root is None:
        return settings, roots
    refuse_no_folder("--root", root)
    home, files = root.resolve(), entry.facts.files
    holds = bool(files) and any((home / name).exists() for name in alternatives(files[0]))
    if "root" in entry.settings.model_fields and not holds:
        return {"root": str(home), **settings}, roots
    return settings, (home, *roots)


def settings_of(overrides: Sequence[str]) -> dict[str, Any]:
    """Read `dotted.path=value`, the value as YAML: `val.per_class=2` is `{val: {per_class: 2}}`.

    Raises:
        BadInputError: of another form.
    """
    from vitkd_bench.spec import BadInputError, parse_yaml

    settings: dict[str, Any] = {}
    for override in overrides:
        dotted, equals, text = override.partition("=")
        *parents, last = dotted.split(".")
        if not equals or not all((*parents, last)):
            raise BadInputError(f"--set {override!r}: write it as setting=value, e.g. val.per_class=20")
        place = settings
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise BadInputError(f"--set {override!r}: {parent} is a single value")
        place[last] = parse_yaml(text, Path(f"--set {dotted}")).data
    return settings


def refuse_no_folder(option: str, folder: Path | None) -> None:
    """Refuse a folder that is not there.

    Raises:
        BadInputError: so it is.
    """
    from vitkd_bench.spec import BadInputError

    if folder is not None and not folder.is_dir():
        raise BadInputError(f"{option} {folder}: no such folder")
