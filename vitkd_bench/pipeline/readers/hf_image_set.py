"""The reader of Hugging Face image sets on disk: parquet files, or what `save_to_disk` writes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from vitkd_bench.contracts import KnownClass, Part
from vitkd_bench.datasets.hf_image_set import HfImageSetSettings
from vitkd_bench.pipeline.arrow_images import Column, read_arrow, read_parquet
from vitkd_bench.pipeline.images import ChosenImages, JoinedImages
from vitkd_bench.pipeline.tree import find
from vitkd_bench.spec import BadInputError, ClassInfo, Dataset, DatasetSettings, WorldError, nearest

_OF = re.compile(r"-(\d{5})(-of-(\d{5}))")


class HfImageSetReader:
    """Reads splits of `HfImageSetSettings`; an id is the split and the row's number, `train/0000017`."""

    def classes(
        self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]
    ) -> tuple[KnownClass, ...]:
        """List the classes that the files of train name."""
        own = _own(settings)
        home = find(own.path, "path", roots, facts.name)
        names = _columns(home, own.train, own)[0].names
        _files(home, own.test)
        return tuple(KnownClass(ClassInfo(name=name), name) for name in names)

    def parts(self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]) -> dict[str, Part]:
        """Give train, test and, where one is named, val, in the order of the classes and then of the rows."""
        own = _own(settings)
        home = find(own.path, "path", roots, facts.name)
        splits = {"train": own.train, "val": own.published_val, "test": own.test}
        read = {part: _columns(home, name, own) for part, name in splits.items() if name is not None}
        names = read["train"][0].names
        for part, columns in read.items():
            if any(column.names != names for column in columns):
                raise WorldError(f"{home}: {splits[part]}: its classes are not those of {own.train}")
        return {part: _part(columns, f"{part}/") for part, columns in read.items()}


READER = HfImageSetReader()


def _own(settings: DatasetSettings) -> HfImageSetSettings:
    if not isinstance(settings, HfImageSetSettings):
        raise BadInputError("reader 'hf_image_set': register the data set with HfImageSetSettings")
    return settings


def _files(home: Path, split: str) -> list[Path]:
    """Find the files of a split, sorted: parquet of a repository, or arrow files as saved."""
    found = [
        *sorted(home.glob(f"{split}-*.parquet")),
        *sorted(home.glob(f"data/{split}-*.parquet")),
        *sorted(home.glob(f"{split}.parquet")),
        *sorted(home.glob(f"{split}/*.parquet")),
    ]
    found = found or sorted(home.glob(f"{split}/*.arrow"))
    if not found:
        if deeper := sorted(home.glob(f"*/{split}-*.parquet")):
            inside = deeper[0].parent.name
            raise WorldError(f"{home}: files of split {split!r} lie in {inside}: say path: .../{inside}")
        known = {p.name.partition("-")[0] for p in home.glob("**/*.parquet")}
        known |= {p.parent.name for p in home.glob("*/*.arrow")}
        raise WorldError(f"{home}: no files of split {split!r}, parquet or arrow{nearest(split, known)}")
    _refuse_gaps(found)
    return found


def _refuse_gaps(paths: list[Path]) -> None:
    """Refuse files of which one says that there are more: data-00000-of-00002 without data-00001."""
    there = {path.name for path in paths}
    for path in paths:
        if of := _OF.search(path.name):
            wanted = (
                f"{path.name[: of.start()]}-{i:05d}{path.name[of.start(2) :]}" for i in range(int(of[3]))
            )
            if missing := next((name for name in wanted if name not in there), None):
                raise WorldError(f"{path.parent}: {missing!r} is missing, which {path.name!r} speaks of")


def _columns(home: Path, split: str, own: HfImageSetSettings) -> list[Column]:
    return [
        (read_parquet if path.suffix == ".parquet" else read_arrow)(path, own.image, own.label)
        for path in _files(home, split)
    ]


def _part(columns: list[Column], prefix: str) -> Part:
    labels = np.concatenate([column.labels for column in columns])
    order = np.argsort(labels, kind="stable")
    images = ChosenImages(JoinedImages.of([column.images for column in columns]), order)
    return Part(images, labels[order], tuple(f"{row:07d}" for row in order.tolist()), prefix)
