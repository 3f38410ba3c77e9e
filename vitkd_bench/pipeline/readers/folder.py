"""The reader of any folder or tar of images, `class/file`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitkd_bench.contracts import Examples
from vitkd_bench.datasets.folder import FolderSettings
from vitkd_bench.pipeline.decode import decode
from vitkd_bench.pipeline.selection import carve, chosen, draw
from vitkd_bench.pipeline.tree import Tree, find, open_tree
from vitkd_bench.spec import BadInputError, ClassInfo, Dataset, DatasetSettings, WorldError, nearest

_INDEX = "_index"


@dataclass(frozen=True, slots=True)
class _Class:
    folder: str
    info: ClassInfo

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple({self.folder: None, self.info.name: None})


class FolderReader:
    """Reads `train` and `test` of `FolderSettings`; ids are `train/class/file` and `test/class/file`."""

    def classes(
        self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]
    ) -> tuple[ClassInfo, ...]:
        """List the classes of the JSON file, or else the folders of train; after any subset."""
        own = _own(settings)
        for field in ("train", "test"):
            find(getattr(own, field), field, roots, facts.name)
        return _kept(facts, own, _known(facts, own, roots, None))[1]

    def open(
        self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...], image_size: int | None
    ) -> dict[str, Examples]:
        """Give train, val and test, sorted by class and then by file; (N, 3, S, S)."""
        own = _own(settings)
        splits: dict[str, Examples] = {}
        with open_tree(find(own.train, "train", roots, facts.name)) as tree:
            known = _known(facts, own, roots, tree)
            kept = [known[i] for i in _kept(facts, own, known)[0]]
            for split, files in _train_and_val(_listed(tree, kept, known), own, kept).items():
                splits[split] = _decoded(tree, "train", files, image_size)
        with open_tree(find(own.test, "test", roots, facts.name)) as tree:
            splits["test"] = _decoded(tree, "test", _listed(tree, kept, known), image_size)
        return splits


READER = FolderReader()


def _own(settings: DatasetSettings) -> FolderSettings:
    if not isinstance(settings, FolderSettings):
        raise BadInputError("reader 'folder': register the data set with FolderSettings")
    return settings


def _known(
    facts: Dataset, settings: FolderSettings, roots: tuple[Path, ...], tree: Tree | None
) -> list[_Class]:
    """All classes in their order: from the JSON file, or else the folders of train."""
    if settings.classes is not None:
        return read_classes(find(settings.classes, "classes", roots, facts.name))
    if tree is None:
        with open_tree(find(settings.train, "train", roots, facts.name)) as opened:
            return _known(facts, settings, roots, opened)
    return [_Class(name, ClassInfo(name=name)) for name in sorted(tree.folders, key=_natural)]


def _natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """Sort numbers by value, so that folder 10 comes after folder 2 (ImageNet-V2's folders are numbers)."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], name


def read_classes(path: Path) -> list[_Class]:
    """Read a JSON file of classes: names, or objects with `name`, perhaps `label`, `wnid`, `<space>_index`.

    Raises:
        WorldError: cannot be read.
        BadInputError: not such a list; a label or folder twice; labels that are not 0 to n - 1.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WorldError(f"{path}: cannot be read as JSON: {error}") from None
    rows = data.get("classes") if isinstance(data, dict) else data
    if not isinstance(rows, list) or len(rows) < 2:
        raise BadInputError(
            f"{path}: a list of at least two classes is needed, or an object with one under 'classes'"
        )
    rows = [{"name": row} if isinstance(row, str) else row for row in rows]
    classes = [_class(path, i, row) for i, row in enumerate(_ordered(path, rows))]
    folders = [c.folder for c in classes]
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


def _class(path: Path, position: int, row: Any) -> _Class:
    if not isinstance(row, Mapping) or not isinstance(row.get("name"), str) or not row["name"]:
        raise BadInputError(f"{path}: class {position}: 'name' is needed, got {row!r}")
    folder = row.get("wnid", row["name"])
    indices = {str(k).removesuffix(_INDEX): v for k, v in row.items() if str(k).endswith(_INDEX)}
    for space, index in indices.items():
        if not isinstance(index, int) or isinstance(index, bool) or index < 0:
            raise BadInputError(
                f"{path}: class {position}: {space}{_INDEX}: a number from 0 on, got {index!r}"
            )
    if not isinstance(folder, str):
        raise BadInputError(f"{path}: class {position}: wnid: text is needed, got {folder!r}")
    return _Class(folder, ClassInfo(name=row["name"], indices=indices))


def _kept(
    facts: Dataset, settings: FolderSettings, known: list[_Class]
) -> tuple[list[int], tuple[ClassInfo, ...]]:
    return chosen(facts, settings, [c.info for c in known], [c.keys for c in known])


def _listed(tree: Tree, kept: list[_Class], known: list[_Class]) -> list[list[str]]:
    """Files of each kept class; every folder has to be a class, every kept class has to have files."""
    names = {c.folder for c in known}
    for folder in tree.folders:
        if folder not in names:
            raise WorldError(
                f"{tree.path}: folder {folder!r} is none of the {len(names)} classes{nearest(folder, names)}"
            )
    for c in kept:
        if c.folder not in tree.folders:
            raise WorldError(
                f"{tree.path}: class {c.info.name!r} has no image: folder {c.folder!r} is missing or empty"
            )
    return [[f"{c.folder}/{file}" for file in tree.folders[c.folder]] for c in kept]


def _train_and_val(
    files: list[list[str]], settings: FolderSettings, kept: list[_Class]
) -> dict[str, list[list[str]]]:
    """Carve val first, so that it stays the same whatever part of train is drawn."""
    train, val = [], []
    for c, of_class in zip(kept, files, strict=True):
        rest, held_out = carve(of_class, settings.val, c.info.name)
        train.append(draw(rest, settings.subset, c.info.name))
        val.append(held_out)
    return {"train": train, "val": val}


def _decoded(tree: Tree, split: str, files: list[list[str]], image_size: int | None) -> Examples:
    named = [(label, name) for label, of_class in enumerate(files) for name in of_class]
    images: np.ndarray | None = None
    for i, (_, name) in enumerate(named):
        image = decode(tree.read(name), f"{tree.path}/{name}", image_size)
        if images is None:
            images = np.empty((len(named), *image.shape), dtype=np.uint8)
        if image.shape != images.shape[1:]:
            raise BadInputError(
                f"{tree.path}: images differ in size ({named[0][1]}: {images.shape[2:]}, {name}: "
                f"{image.shape[1:]}); set image_size in the recipe"
            )
        images[i] = image
    return Examples(
        images=np.empty((0, 3, 0, 0), np.uint8) if images is None else images,
        labels=np.array([label for label, _ in named], dtype=np.int64),
        ids=tuple(f"{split}/{name}" for _, name in named),
    )
