"""The reader of Flowers-102: numbered images, with labels and split in MATLAB files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitkd_bench.contracts import KnownClass, Part
from vitkd_bench.pipeline.foreign import parse_mat, read_bytes
from vitkd_bench.pipeline.places import Places, places_of
from vitkd_bench.pipeline.tree import Files, open_files
from vitkd_bench.spec import Dataset, DatasetSettings, WorldError, alternatives

SPLITS = {"train": "trnid", "val": "valid", "test": "tstid"}


class FlowersReader:
    """Reads the published train, val and test; ids are `jpg/image_00001.jpg` ..."""

    def classes(
        self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]
    ) -> tuple[KnownClass, ...]:
        """List the classes, once the files are there."""
        places = places_of(facts, settings, roots)
        for line in facts.files[1:]:
            places.find(*alternatives(line))
        return tuple(KnownClass(info, info.name) for info in facts.classes or ())

    def parts(self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]) -> dict[str, Part]:
        """Give train, val and test, in the order of the classes and then of the numbers."""
        places = places_of(facts, settings, roots)
        path = places.find(*alternatives(facts.files[1]))
        files = open_files(path)
        if path.is_file():
            files = files.under("jpg")
        labels = _numbers(places, "imagelabels.mat", "labels")["labels"] - 1
        known = len(facts.classes or ())
        if len(labels) and not (labels.min() >= 0 and labels.max() < known):
            raise WorldError(f"{places.find('imagelabels.mat')}: labels: 1 to {known} are needed")
        splits = _numbers(places, "setid.mat", *SPLITS.values())
        _check(places.find("setid.mat"), splits, len(labels))
        return {name: _part(files, splits[field], labels) for name, field in SPLITS.items()}


READER = FlowersReader()


def _numbers(places: Places, file: str, *fields: str) -> dict[str, NDArray[np.int64]]:
    path = places.find(file)
    found = parse_mat(read_bytes(path), str(path), *fields)
    return {field: _whole(found[field], f"{path}: {field}") for field in fields}


def _whole(found: Any, place: str) -> NDArray[np.int64]:
    array = np.atleast_1d(np.asarray(found))
    if array.ndim != 1 or array.dtype.kind not in "iuf" or not bool(np.all(np.isfinite(array))):
        raise WorldError(f"{place}: a row of numbers is needed")
    if array.size and not (abs(float(array.min())) < 1e9 and abs(float(array.max())) < 1e9):
        raise WorldError(f"{place}: a number out of range")
    return array.astype(np.int64)


def _check(path: Path, splits: dict[str, NDArray[np.int64]], images: int) -> None:
    every = np.concatenate(list(splits.values()))
    if len(every) and not (every.min() >= 1 and every.max() <= images):
        raise WorldError(f"{path}: an image number outside of 1 to {images}, for which there are labels")
    if len(np.unique(every)) != len(every):
        raise WorldError(f"{path}: an image stands in two splits, or twice in one")


def _part(files: Files, numbers: NDArray[np.int64], labels: NDArray[np.int64]) -> Part:
    order = sorted(numbers.tolist(), key=lambda n: (labels[n - 1], n))
    names = [f"image_{number:05d}.jpg" for number in order]
    if missing := [name for name in names if name not in files]:
        raise WorldError(f"{files.path}: {len(missing)} images are missing, {missing[0]!r} is the first")
    chosen = np.array([labels[number - 1] for number in order], dtype=np.int64)
    return Part(files.chosen(names), chosen, tuple(f"jpg/{name}" for name in names))
