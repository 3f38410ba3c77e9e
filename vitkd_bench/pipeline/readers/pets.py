"""The reader of Oxford-IIIT Pet: images named by their breed, with two lists."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vitkd_bench.contracts import KnownClass, Part
from vitkd_bench.pipeline.foreign import parse_lines
from vitkd_bench.pipeline.places import Places, places_of
from vitkd_bench.pipeline.tree import Files, open_files
from vitkd_bench.spec import Dataset, DatasetSettings, WorldError, alternatives

LISTS = {"train": "trainval.txt", "test": "test.txt"}


class PetsReader:
    """Reads trainval as train, and test; ids are `images/Abyssinian_100.jpg` ..."""

    def classes(
        self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]
    ) -> tuple[KnownClass, ...]:
        """List the breeds, once the files are there."""
        places = places_of(facts, settings, roots)
        for line in facts.files[1:]:
            places.find(*alternatives(line))
        return _known(facts)

    def parts(self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]) -> dict[str, Part]:
        """Give train and test, in the order of the breeds and then of the names."""
        places, known = places_of(facts, settings, roots), _known(facts)
        images = _opened(places, "images", facts.files[1])
        lists = _opened(places, "annotations", facts.files[2])
        labels = {part: _labels(lists, name, known) for part, name in LISTS.items()}
        if both := sorted(labels["train"].keys() & labels["test"].keys()):
            raise WorldError(f"{lists.path}: {both[0]!r} stands in both lists; {len(both)} images do")
        return {part: _part(images, found) for part, found in labels.items()}


READER = PetsReader()


def _known(facts: Dataset) -> tuple[KnownClass, ...]:
    return tuple(KnownClass(info, info.name.replace(" ", "_")) for info in facts.classes or ())


def _opened(places: Places, folder: str, line: str) -> Files:
    path = places.find(*alternatives(line))
    files = open_files(path)
    return files.under(folder) if path.is_file() else files


def _labels(lists: Files, name: str, known: tuple[KnownClass, ...]) -> dict[str, int]:
    """Read lines of image, class id from 1, species and breed of the species."""
    where = f"{lists.path}/{name}"
    labels: dict[str, int] = {}
    for number, line in enumerate(parse_lines(lists.read(name), where), 1):
        fields = line.split()
        if not fields or line.startswith("#"):
            continue
        if len(fields) != 4 or not (fields[1].isascii() and fields[1].isdecimal()):
            raise WorldError(f"{where}:{number}: an image and three numbers are needed, got {line[:40]!r}")
        image, label = fields[0], int(fields[1]) - 1
        breed = image.rpartition("_")[0]
        if not 0 <= label < len(known) or known[label].key != breed:
            told = known[label].key if 0 <= label < len(known) else "no breed"
            raise WorldError(f"{where}:{number}: class {label + 1} is {told}, but the image is {image!r}")
        if image in labels:
            raise WorldError(f"{where}:{number}: image {image!r} stands twice")
        labels[image] = label
    return labels


def _part(files: Files, labels: dict[str, int]) -> Part:
    names = sorted(labels, key=lambda name: (labels[name], name))
    if missing := [name for name in names if f"{name}.jpg" not in files]:
        raise WorldError(f"{files.path}: {len(missing)} images are missing, '{missing[0]}.jpg' is the first")
    stored = [f"{name}.jpg" for name in names]
    ids = tuple(f"images/{name}" for name in stored)
    return Part(files.chosen(stored), np.array([labels[name] for name in names], dtype=np.int64), ids)
