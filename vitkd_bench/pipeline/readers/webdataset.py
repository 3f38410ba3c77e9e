"""The reader of WebDataset shards: tars with `key.jpg` beside `key.cls` or `key.json`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitkd_bench.contracts import KnownClass, Part
from vitkd_bench.datasets.webdataset import WebdatasetSettings
from vitkd_bench.pipeline.class_list import classes_of_folders, read_classes
from vitkd_bench.pipeline.foreign import parse_json
from vitkd_bench.pipeline.images import ChosenImages, JoinedImages
from vitkd_bench.pipeline.tree import Files, find, open_files
from vitkd_bench.spec import BadInputError, Dataset, DatasetSettings, WorldError, nearest

IMAGES = ("jpg", "jpeg", "png", "webp", "ppm", "bmp", "tif", "tiff", "gif")
SHARDS_AT_MOST = 100_000
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


class WebdatasetReader:
    """Reads `train` and `test` of `WebdatasetSettings`; an id is the shard's name and the image's in it."""

    def classes(
        self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]
    ) -> tuple[KnownClass, ...]:
        """List the classes of the JSON file, or else the labels of train."""
        own = _own(settings)
        paths = {field: _shards(own, field, roots, facts.name) for field in ("train", "test")}
        _refuse_shared(paths["train"], paths["test"])
        if own.classes is not None:
            return read_classes(find(own.classes, "classes", roots, facts.name))
        return classes_of_folders({s.label for path in paths["train"] for s in _samples(path, own.label)[1]})

    def parts(self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]) -> dict[str, Part]:
        """Give train and test, in the order of the classes, then of the shards and names."""
        own, known = _own(settings), self.classes(facts, settings, roots)
        position = {c.key: i for i, c in enumerate(known)}
        if own.classes is not None and not any(key.isdecimal() for key in position):
            position |= {str(i): i for i in range(len(known))}  # numbers are places in the list of names
        return {
            field: _part(_shards(own, field, roots, facts.name), own.label, position, f"{field}/")
            for field in ("train", "test")
        }


READER = WebdatasetReader()


@dataclass(frozen=True, slots=True)
class _Sample:
    image: str
    label: str


def _own(settings: DatasetSettings) -> WebdatasetSettings:
    if not isinstance(settings, WebdatasetSettings):
        raise BadInputError("reader 'webdataset': register the data set with WebdatasetSettings")
    return settings


def _shards(own: WebdatasetSettings, field: str, roots: tuple[Path, ...], dataset: str) -> list[Path]:
    """Find all shards that a setting names."""
    pattern = str(getattr(own, field))
    found = _RANGE.search(pattern)
    if found is None:
        return [find(pattern, field, roots, dataset)]
    first, last = int(found[1]), int(found[2])
    if not 0 <= last - first < SHARDS_AT_MOST:
        raise BadInputError(f"data set {dataset!r}: {field}: {found[0]} is no range from low to high")
    names = [
        pattern[: found.start()] + f"{number:0{len(found[1])}d}" + pattern[found.end() :]
        for number in range(first, last + 1)
    ]
    return [find(name, field, roots, dataset) for name in names]


def _refuse_shared(train: list[Path], test: list[Path]) -> None:
    """Refuse a shard of both parts: what is trained on would be reported."""
    if both := {path.resolve() for path in train} & {path.resolve() for path in test}:
        raise BadInputError(f"test: shard {min(both)} is train's too; {len(both)} shards are")


def _samples(path: Path, field: str) -> tuple[Files, list[_Sample]]:
    """Read the labels of a shard, and which image each is of, in the order of the keys."""
    files = open_files(path)
    groups: dict[str, dict[str, str]] = {}
    for name in files.names:
        folder, slash, base = name.rpartition("/")
        key, dot, kind = base.partition(".")
        if not dot:
            continue
        members = groups.setdefault(f"{folder}{slash}{key}", {})
        if kind.lower() in members:
            raise WorldError(f"{path}/{name}: {members[kind.lower()]!r} is of the same sample and kind")
        members[kind.lower()] = name
    return files, [_sample(files, key, members, field) for key, members in sorted(groups.items())]


def _sample(files: Files, key: str, members: Mapping[str, str], field: str) -> _Sample:
    where = f"{files.path}/{key}"
    images = [members[kind] for kind in IMAGES if kind in members]
    if len(images) != 1:
        kinds = ", ".join(sorted(members))
        raise WorldError(f"{where}: one image is needed beside its label, the members are {kinds}")
    if "cls" in members:
        label: object = files.read(members["cls"]).decode("utf-8", "replace").strip()
    elif "json" in members:
        found = parse_json(files.read(members["json"]), f"{where}.json")
        label = found.get(field) if isinstance(found, dict) else None
    else:
        raise WorldError(f"{where}: neither .cls nor .json says its label")
    if isinstance(label, bool) or not isinstance(label, int | str) or label == "":
        raise WorldError(f"{where}: label: a number or a class's name is needed, got {label!r:.60}")
    return _Sample(images[0], str(label))


def _part(paths: list[Path], field: str, position: Mapping[str, int], prefix: str) -> Part:
    shards = [(path, *_samples(path, field)) for path in paths]
    images = JoinedImages.of([files.chosen([s.image for s in samples]) for _, files, samples in shards])
    labels, ids = [], []
    for path, _, samples in shards:
        for sample in samples:
            if sample.label not in position:
                raise WorldError(
                    f"{path}/{sample.image}: label {sample.label!r} is none of the classes"
                    f"{nearest(sample.label, position)}"
                )
            labels.append(position[sample.label])
            ids.append(f"{path.name}/{sample.image}")
    order = np.argsort(np.array(labels, dtype=np.int64), kind="stable")
    chosen = tuple(ids[i] for i in order.tolist())
    return Part(ChosenImages(images, order), np.array(labels, dtype=np.int64)[order], chosen, prefix)
