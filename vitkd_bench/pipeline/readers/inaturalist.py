"""The reader of iNaturalist 2017 to 2021: the competition's annotations, and its images as they come."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from vitkd_bench.contracts import KnownClass, Part
from vitkd_bench.pipeline.annotations import (
    Annotations,
    agreeing,
    parse_annotations,
    parse_category_names,
    part_of_annotations,
)
from vitkd_bench.pipeline.foreign import read_bytes
from vitkd_bench.pipeline.places import Places, places_of
from vitkd_bench.pipeline.tree import Files, open_files
from vitkd_bench.spec import Dataset, DatasetSettings, WorldError, alternatives


class InaturalistReader:
    """Reads train and the public validation set as test; an id is the file name that the annotations give."""

    def classes(
        self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]
    ) -> tuple[KnownClass, ...]:
        """List the categories in the order of their ids, once images and annotations are there."""
        places = places_of(facts, settings, roots)
        for line in _images(facts):
            places.find(*alternatives(line))
        train, _ = _annotations(facts, places)
        names = getattr(settings, "names", None)
        return train.classes(None if names is None else _names(places.find(names)))

    def parts(self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]) -> dict[str, Part]:
        """Give train and test, in the order of the classes and then of the file names."""
        places = places_of(facts, settings, roots)
        train, test = _annotations(facts, places)
        lines = _images(facts)
        opened = {line: _opened(places, line) for line in lines}
        return {
            "train": _part(train, *opened[lines[0]]),
            "test": _part(test, *opened[lines[-1]]),
        }


READER = InaturalistReader()


def _images(facts: Dataset) -> tuple[str, ...]:
    """Give the lines of the images: of train, and of test where that is another folder."""
    return facts.files[1:-2]


def _annotations(facts: Dataset, places: Places) -> tuple[Annotations, Annotations]:
    train, test = (
        _read(places.find(*alternatives(line)), alternatives(line)[0]) for line in facts.files[-2:]
    )
    agreeing(train, test)
    return train, test


def _read(path: Path, name: str) -> Annotations:
    try:
        stat = path.stat()
    except OSError as error:
        raise WorldError(f"{path}: cannot be read: {error.strerror or error}") from None
    return _parsed(path, name, (stat.st_size, stat.st_mtime_ns))


@lru_cache(maxsize=2)
def _parsed(path: Path, name: str, _state: tuple[int, int]) -> Annotations:
    """Read annotations once for classes and parts; they are large."""
    return parse_annotations(*_json(path, name))


def _names(path: Path) -> dict[int, str]:
    return parse_category_names(*_json(path, "categories.json"))


def _json(path: Path, name: str) -> tuple[bytes, str]:
    """Give the bytes of a JSON file, or of the one of that name in an archive, and where they are from."""
    if path.suffix == ".json":
        return read_bytes(path), str(path)
    files = open_files(path)
    found = [member for member in files.names if member.rpartition("/")[2] == name]
    if len(found) != 1:
        raise WorldError(f"{path}: {name} is needed once in it, found {len(found)} times")
    return files.read(found[0]), f"{path}/{found[0]}"


def _opened(places: Places, line: str) -> tuple[Files, str]:
    """Open images, with the folder that their names begin with."""
    folder = alternatives(line)[0]
    path = places.find(*alternatives(line))
    files = open_files(path)
    return (files if path.is_dir() else files.under(folder)), folder


def _part(found: Annotations, files: Files, folder: str) -> Part:
    return part_of_annotations(found, files, stored_as=lambda name: name.removeprefix(f"{folder}/"))
