"""Annotations in the style of COCO and iNaturalist: categories, images, and which image is of which."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from vitkd_bench.contracts import KnownClass, Part
from vitkd_bench.pipeline.foreign import parse_json
from vitkd_bench.pipeline.tree import Files
from vitkd_bench.spec import ClassInfo, WorldError, nearest


@dataclass(frozen=True, slots=True)
class Annotations:
    """What one file says: `categories` {id: name} in the order of their ids, `labels` {file name: position}.

    `where` is the file, for errors.
    """

    where: str
    categories: dict[int, str]
    labels: dict[str, int]

    def classes(self, names: Mapping[int, str] | None = None) -> tuple[KnownClass, ...]:
        """Take the categories for classes, named as the file says or by `names`, by id.

        Raises:
            WorldError: a category without a name, or two of one name.
        """
        shown = self.categories if names is None else names
        if missing := [number for number in self.categories if number not in shown]:
            raise WorldError(f"{self.where}: category {missing[0]} has no name in the file of names")
        found = tuple(KnownClass(ClassInfo(name=shown[number]), str(number)) for number in self.categories)
        seen: dict[str, str] = {}
        for known in found:
            if known.info.name in seen:
                raise WorldError(
                    f"{self.where}: categories {seen[known.info.name]} and {known.key} are both named "
                    f"{known.info.name!r}"
                )
            seen[known.info.name] = known.key
        return found


def parse_annotations(data: bytes, where: str) -> Annotations:
    """Read annotations: `categories`, `images` with `file_name`, and `annotations` that join the two by ids.

    Raises:
        WorldError: not such a file; an id or a file twice, an annotation of a missing image or category, an
            image without a category or with two; names it.
    """
    document = parse_json(data, where)
    if not isinstance(document, dict):
        raise WorldError(f"{where}: an object with categories, images and annotations is needed")
    categories = _categories(document.get("categories"), where)
    images = _by_id(document.get("images"), "images", "file_name", where)
    position = {number: i for i, number in enumerate(categories)}
    labels: dict[Any, int] = {}
    for i, row in enumerate(_rows(document.get("annotations"), "annotations", where)):
        image, category = row.get("image_id"), row.get("category_id")
        for field, known, value in (("image_id", images, image), ("category_id", position, category)):
            if not isinstance(value, int | str) or value not in known:
                raise WorldError(f"{where}: annotations[{i}]: no {field} {_short(value)} in this file")
        if labels.setdefault(image, position[category]) != position[category]:  # type: ignore[index]
            raise WorldError(f"{where}: image {images[image]!r} is of two categories")
    if bare := [name for number, name in images.items() if number not in labels]:
        raise WorldError(f"{where}: {len(bare)} images have no annotation, {bare[0]!r} is the first")
    return Annotations(where, categories, _by_file(images, labels, where))


def parse_category_names(data: bytes, where: str) -> dict[int, str]:
    """Read names of categories by id: a list of `{"id": 0, "name": ...}`, or an object with `categories`.

    Raises:
        WorldError: not such a file.
    """
    document = parse_json(data, where)
    return _categories(document.get("categories") if isinstance(document, dict) else document, where)


def part_of_annotations(
    found: Annotations, files: Files, prefix: str = "", stored_as: Callable[[str], str] = str
) -> Part:
    """Give the images that the annotations name, by class and then by file name, which is the id.

    `stored_as` says under which name `files` has a file.

    Raises:
        WorldError: a file that is not there.
    """
    names = sorted(found.labels, key=lambda name: (found.labels[name], name))
    stored = [stored_as(name) for name in names]
    if missing := [name for name in stored if name not in files]:
        hint = nearest(missing[0], files.names[:1000])
        raise WorldError(
            f"{found.where}: {len(missing)} of its images are not in {files.path}, {missing[0]!r} is the "
            f"first{hint}"
        )
    labels = np.array([found.labels[name] for name in names], dtype=np.int64)
    return Part(files.chosen(stored), labels, tuple(names), prefix)


def agreeing(train: Annotations, test: Annotations, *, apart: bool = False) -> None:
    """Hold two files to the same categories, and to no image in both; `apart`: images lie in two places.

    Raises:
        WorldError: they differ, or share an image; names it.
    """
    if train.categories != test.categories:
        raise WorldError(f"{test.where}: its categories are not those of {train.where}")
    if not apart and (both := sorted(train.labels.keys() & test.labels.keys())):
        raise WorldError(f"{test.where}: {both[0]!r} stands in {train.where} too; {len(both)} images do")


def _categories(rows: object, where: str) -> dict[int, str]:
    found = _by_id(rows, "categories", "name", where)
    if wrong := [number for number in found if not isinstance(number, int)]:
        raise WorldError(f"{where}: categories: an id is a number, got {_short(wrong[0])}")
    if len(found) < 2:
        raise WorldError(f"{where}: categories: at least two are needed, got {len(found)}")
    return dict(sorted(found.items()))


def _by_id(rows: object, field: str, text: str, where: str) -> dict[Any, str]:
    found: dict[Any, str] = {}
    for i, row in enumerate(_rows(rows, field, where)):
        number, said = row.get("id"), row.get(text)
        place = f"{where}: {field}[{i}]"
        if not isinstance(number, int | str) or isinstance(number, bool):
            raise WorldError(f"{place}: an id is needed, got {_short(number)}")
        if not isinstance(said, str) or not said:
            raise WorldError(f"{place}: {text} is needed, got {_short(said)}")
        if number in found:
            raise WorldError(f"{place}: id {_short(number)} stands twice")
        found[number] = said
    return found


def _rows(rows: object, field: str, where: str) -> Sequence[dict[str, Any]]:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise WorldError(f"{where}: {field}: a list of objects is needed")
    return rows


def _by_file(images: Mapping[Any, str], labels: Mapping[Any, int], where: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for number, name in images.items():
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts:
            raise WorldError(f"{where}: file {name!r} leads outside the images' folder")
        if name in found:
            raise WorldError(f"{where}: file {name!r} stands twice")
        found[name] = labels[number]
    return found


def _short(value: object) -> str:
    return repr(value)[:60]
