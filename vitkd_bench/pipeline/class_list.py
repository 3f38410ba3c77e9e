"""Lists of classes: a JSON file of them, and the folders that stand for them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vitkd_bench.contracts import KnownClass
from vitkd_bench.pipeline.foreign import read_json
from vitkd_bench.spec import BadInputError, ClassInfo

_INDEX, _INDICES = "_index", "_indices"


def classes_of_folders(folders: Iterable[str]) -> tuple[KnownClass, ...]:
    """Take folders for classes, in the order of their names, numbers by value (10 after 2)."""
    return tuple(KnownClass(ClassInfo(name=name), name) for name in sorted(folders, key=natural))


def natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """Sort numbers by value, so that folder 10 comes after folder 2 (ImageNet-V2's folders are numbers)."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], name


def read_classes(path: Path) -> tuple[KnownClass, ...]:
    """Read a JSON file of classes: names, or objects with `name`, perhaps `label`, `wnid`, `<space>_index`.

    A class that is several elsewhere has `<space>_indices`, a list, which may also stand beside the list of
    classes as `{name: list}`; an empty one is no place there.

    Raises:
        WorldError: cannot be read.
        BadInputError: not such a list; a label or folder twice; labels that are not 0 to n - 1.
    """
    data = read_json(path)
    rows = data.get("classes") if isinstance(data, dict) else data
    if not isinstance(rows, list) or len(rows) < 2:
        raise BadInputError(
            f"{path}: a list of at least two classes is needed, or an object with one under 'classes'"
        )
    rows = [{"name": row} if isinstance(row, str) else row for row in rows]
    rows = _with_places(path, rows, data if isinstance(data, dict) else {})
    classes = tuple(_class(path, i, row) for i, row in enumerate(_ordered(path, rows)))
    folders = [c.key for c in classes]
    twice = sorted({name for name in folders if folders.count(name) > 1})
    if twice:
        raise BadInputError(f"{path}: two classes have the folder {twice[0]!r}; tell them apart by wnid")
    return classes


def _ordered(path: Path, rows: list[Any]) -> list[Any]:
    labels = [row["label"] for row in rows if isinstance(row, dict) and "label" in row]
    if not labels:
        return rows
    if sorted(map(str, labels)) != sorted(map(str, range(len(rows)))):
        raise BadInputError(f"{path}: label: each of 0 to {len(rows) - 1} once, in every class or in none")
    return sorted(rows, key=lambda row: int(row["label"]))


def _with_places(path: Path, rows: list[Any], data: Mapping[str, Any]) -> list[Any]:
    """Add to each class what `<space>_indices` beside the list say of it."""
    names = {row.get("name") for row in rows if isinstance(row, Mapping) and isinstance(row.get("name"), str)}
    beside = {key: found for key, found in data.items() if key.endswith(_INDICES)}
    for key, found in beside.items():
        if not isinstance(found, Mapping) or not names.issuperset(found):
            raise BadInputError(f"{path}: {key}: an object is needed, with a list for each class by its name")
    return [
        {**{key: found[row["name"]] for key, found in beside.items() if row.get("name") in found}, **row}
        if isinstance(row, Mapping)
        else row
        for row in rows
    ]


def _class(path: Path, position: int, row: Any) -> KnownClass:
    if not isinstance(row, Mapping) or not isinstance(row.get("name"), str) or not row["name"]:
        raise BadInputError(f"{path}: class {position}: 'name' is needed, got {row!r}")
    folder = row.get("wnid", row["name"])
    if not isinstance(folder, str):
        raise BadInputError(f"{path}: class {position}: wnid: text is needed, got {folder!r}")
    indices: dict[str, int | tuple[int, ...]] = {}
    for field, found in row.items():
        place = f"{path}: class {position}: {field}"
        if field.endswith(_INDEX):
            indices[field.removesuffix(_INDEX)] = _number(place, found)
        elif field.endswith(_INDICES):
            if not isinstance(found, list):
                raise BadInputError(f"{place}: a list of numbers is needed, got {found!r}")
            if found:
                indices[field.removesuffix(_INDICES)] = tuple(_number(place, each) for each in found)
    return KnownClass(ClassInfo(name=row["name"], indices=indices), folder)


def _number(place: str, found: Any) -> int:
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise BadInputError(f"{place}: a number from 0 on, got {found!r}")
    return found
