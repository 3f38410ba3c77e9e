"""The reader of Tiny ImageNet: its folder or its zip, with the labels of val_annotations.txt."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vitkd_bench.contracts import KnownClass, Part
from vitkd_bench.datasets._imagenet import wnid_of
from vitkd_bench.pipeline.foreign import parse_lines
from vitkd_bench.pipeline.places import places_of
from vitkd_bench.pipeline.tree import Files, open_files
from vitkd_bench.spec import Dataset, DatasetSettings, WorldError, alternatives, nearest

ANNOTATIONS = "val/val_annotations.txt"


class TinyImagenetReader:
    """Reads train and the official val as test; ids are `train/wnid/images/file` and `val/images/file`."""

    def classes(
        self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]
    ) -> tuple[KnownClass, ...]:
        """List the 200 classes, once the files are there."""
        _find(facts, settings, roots)
        return _known(facts)

    def parts(self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]) -> dict[str, Part]:
        """Give train and test, in the order of the classes and then of the names."""
        path = _find(facts, settings, roots)
        files = open_files(path)
        if path.is_file():
            files = files.under(alternatives(facts.files[1])[0])
        position = {known.key: i for i, known in enumerate(_known(facts))}
        return {
            "train": _part(files, _train(files, position)),
            "test": _part(files, _annotated(files, position)),
        }


READER = TinyImagenetReader()


def _known(facts: Dataset) -> tuple[KnownClass, ...]:
    return tuple(KnownClass(info, wnid_of(info)) for info in facts.classes or ())


def _find(facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]) -> Path:
    def has_val(folder: Path) -> bool:
        return (folder / ANNOTATIONS).is_file()

    places = places_of(facts, settings, roots, has_val)
    home = next((folder for folder in places.folders if has_val(folder)), None)
    return home or places.find(*alternatives(facts.files[1]))


def _train(files: Files, position: dict[str, int]) -> dict[str, int]:
    """Find the class of each training image; boxes and the like beside the images are left alone."""
    labels = {}
    for name in files.names:
        parts = name.split("/")
        if parts[0] == "train" and len(parts) == 4 and parts[2] == "images":
            labels[name] = _class(parts[1], position, f"{files.path}/train: folder")
    return labels


def _annotated(files: Files, position: dict[str, int]) -> dict[str, int]:
    """Read the class of each image of val: lines of name, wnid and a box, apart by tabs."""
    where = f"{files.path}/{ANNOTATIONS}"
    labels: dict[str, int] = {}
    for number, line in enumerate(parse_lines(files.read(ANNOTATIONS), where), 1):
        fields = line.split("\t")
        if len(fields) < 2:
            raise WorldError(f"{where}:{number}: a name, a tab and a wnid are needed, got {line[:40]!r}")
        name = f"val/images/{fields[0]}"
        if name not in files or name in labels:
            told = "stands twice" if name in labels else f"is not in {files.path}"
            raise WorldError(f"{where}:{number}: image {fields[0]!r} {told}")
        labels[name] = _class(fields[1], position, f"{where}:{number}: wnid")
    return labels


def _class(wnid: str, position: dict[str, int], place: str) -> int:
    if wnid not in position:
        raise WorldError(f"{place} {wnid!r} is none of the {len(position)} classes{nearest(wnid, position)}")
    return position[wnid]


def _part(files: Files, labels: dict[str, int]) -> Part:
    names = sorted(labels, key=lambda name: (labels[name], name))
    return Part(files.chosen(names), np.array([labels[n] for n in names], dtype=np.int64), tuple(names))
