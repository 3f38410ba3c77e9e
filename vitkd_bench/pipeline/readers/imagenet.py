"""The reader of ImageNet-1k: folders by wnid, or the tars as downloaded with the devkit."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from vitkd_bench.contracts import KnownClass, Part
from vitkd_bench.datasets._imagenet import WNIDS
from vitkd_bench.pipeline.foreign import parse_lines, parse_mat
from vitkd_bench.pipeline.nested import open_nested
from vitkd_bench.pipeline.places import Places, places_of
from vitkd_bench.pipeline.readers.by_class import part_of_tree
from vitkd_bench.pipeline.tree import Files, open_files, tree_of
from vitkd_bench.spec import Dataset, DatasetSettings, WorldError, alternatives

DEVKIT = ("ILSVRC2012_devkit_t12", "ILSVRC2012_devkit_t12.tar.gz")
_VAL_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")


class ImagenetReader:
    """Reads train and the official validation set as test; ids are `train/wnid/file` and `test/wnid/file`."""

    def classes(
        self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]
    ) -> tuple[KnownClass, ...]:
        """List the 1,000 classes, once train and val are there."""
        for path in _parts(facts, places_of(facts, settings, roots)):
            if path.name == "ILSVRC2012_img_val.tar":
                places_of(facts, settings, roots).find(*DEVKIT)
        return _known(facts)

    def parts(self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]) -> dict[str, Part]:
        """Give train and test, in the order of the classes and then of the names."""
        places, known = places_of(facts, settings, roots), _known(facts)
        train, val = _parts(facts, places)
        files = open_nested(train) if train.suffix == ".tar" else open_files(train)
        return {
            "train": part_of_tree(tree_of(files), known, "train"),
            "test": _validation(open_files(val), places, known),
        }


READER = ImagenetReader()


def _parts(facts: Dataset, places: Places) -> tuple[Path, Path]:
    train, val = facts.files[1:]
    return places.find(*alternatives(train)), places.find(*alternatives(val))


def _known(facts: Dataset) -> tuple[KnownClass, ...]:
    return tuple(KnownClass(info, wnid) for info, wnid in zip(facts.classes or (), WNIDS, strict=True))


def _validation(files: Files, places: Places, known: tuple[KnownClass, ...]) -> Part:
    if not files.names:
        raise WorldError(
            f"{files.path}: no image in it: images of val, or folders of them by wnid, are needed"
        )
    if not all(_VAL_NAME.fullmatch(name) for name in files.names):
        return part_of_tree(tree_of(files), known, "test")
    devkit = open_files(places.find(*DEVKIT))
    labels = _labels(files, _truth(devkit))
    order = sorted(range(len(labels)), key=lambda i: (labels[i], files.names[i]))
    names = [files.names[i] for i in order]
    ids = tuple(f"{WNIDS[labels[i]]}/{files.names[i]}" for i in order)
    return Part(files.chosen(names), np.array([labels[i] for i in order], dtype=np.int64), ids, "test/")


def _labels(files: Files, truth: list[int]) -> list[int]:
    """Find the class of each image by the number in its name."""
    numbers = [int(name[len("ILSVRC2012_val_") : -len(".JPEG")]) for name in files.names]
    for name, number in zip(files.names, numbers, strict=True):
        if not 1 <= number <= len(truth):
            raise WorldError(f"{files.path}/{name}: the devkit has labels of images 1 to {len(truth)} only")
    return [truth[number - 1] for number in numbers]


def _truth(devkit: Files) -> list[int]:
    """Read the class of every validation image, 0 to 999 in sorted order of the wnids."""
    wnids = _wnids(devkit)
    name = _member(devkit, "ILSVRC2012_validation_ground_truth.txt")
    where = f"{devkit.path}/{name}"
    found = []
    for number, line in enumerate(parse_lines(devkit.read(name), where), 1):
        text = line.strip()
        if not (text.isascii() and text.isdecimal() and int(text) in wnids):
            raise WorldError(f"{where}:{number}: a class's number, 1 to 1000, is needed, got {text[:40]!r}")
        found.append(wnids[int(text)])
    return found


def _wnids(devkit: Files) -> dict[int, int]:
    """Read which class each ILSVRC2012_ID of a leaf is: `{1: 171, ...}`."""
    name = _member(devkit, "meta.mat")
    where = f"{devkit.path}/{name}"
    synsets = parse_mat(devkit.read(name), where, "synsets")["synsets"]
    index = {wnid: i for i, wnid in enumerate(WNIDS)}
    try:
        rows = [(int(i), str(w)) for i, w in zip(synsets["ILSVRC2012_ID"], synsets["WNID"], strict=True)]
    except (KeyError, TypeError, ValueError, OverflowError):
        raise WorldError(f"{where}: synsets: a list with ILSVRC2012_ID and WNID is needed") from None
    found = {number: index[wnid] for number, wnid in rows if wnid in index}
    if sorted(found) != list(range(1, len(WNIDS) + 1)) or len(set(found.values())) != len(WNIDS):
        raise WorldError(f"{where}: synsets: numbers 1 to 1000 for the 1,000 wnids, each once, are needed")
    return found


def _member(devkit: Files, name: str) -> str:
    found = [member for member in devkit.names if member.rpartition("/")[2] == name]
    if len(found) != 1:
        raise WorldError(f"{devkit.path}: {name} is needed once in the devkit, found {len(found)} times")
    return found[0]
