"""A data set as its conformance kit opens it: reader, parts as found, and the splits that come of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitkd_bench.contracts import KnownClass, Look, Part, Reader
from vitkd_bench.diagnose.dataset_checks import whole_ids
from vitkd_bench.pipeline.parts import Choice, choose, ids_to_skip
from vitkd_bench.pipeline.readers import reader_of
from vitkd_bench.pipeline.selection import chosen
from vitkd_bench.pipeline.streamed import Streamed
from vitkd_bench.registry import DatasetEntry
from vitkd_bench.spec import ClassInfo, Dataset, DatasetSettings

SIDE = 32  # pixels, of a set whose images differ in size
SAMPLE = 64
"""Images of a part that are decoded."""


@dataclass
class DatasetBench:
    """One data set under some settings; what is asked for is found once."""

    entry: DatasetEntry
    settings: DatasetSettings
    roots: tuple[Path, ...]

    @property
    def facts(self) -> Dataset:
        """What it says of itself."""
        return self.entry.facts

    @property
    def reader(self) -> Reader:
        """Who finds its files."""
        return reader_of(self.facts)

    @cached_property
    def known(self) -> tuple[KnownClass, ...]:
        """Its classes."""
        return tuple(self.list_classes())

    @cached_property
    def parts(self) -> dict[str, Part]:
        """Its parts, as found the first time."""
        return self.find_parts()

    @cached_property
    def choice(self) -> Choice:
        """Its splits."""
        kept, _ = chosen(self.facts, self.settings, self.known)
        skip = ids_to_skip(self.settings, self.roots, self.entry.name)
        return choose(self.parts, self.settings, self.known, kept, skip)

    @property
    def kept(self) -> tuple[ClassInfo, ...]:
        """The classes that the settings keep."""
        return chosen(self.facts, self.settings, self.known)[1]

    def list_classes(self) -> tuple[KnownClass, ...]:
        """Ask the reader for the classes."""
        return self.reader.classes(self.facts, self.settings, self.roots)

    def find_parts(self) -> dict[str, Part]:
        """Ask the reader for the parts."""
        return self.reader.parts(self.facts, self.settings, self.roots)

    def shown(self, name: str) -> Streamed:
        """Give a sample of a split, ready to be shown."""
        part = self.choice.parts[name]
        look = Look(self.facts.image_size or SIDE)
        whole = Streamed(part.images, part.labels, whole_ids(part), look, self.facts.channels)
        at = spread(len(part))
        return whole.taken(at, part.labels[at])


def spread(count: int, most: int = SAMPLE) -> NDArray[np.int64]:
    """Give up to `most` positions among `count`, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))


def of_parts(parts: Mapping[str, Part]) -> dict[str, tuple[tuple[str, ...], list[int]]]:
    """Give whole ids and labels by part, to be compared."""
    return {name: (whole_ids(part), part.labels.tolist()) for name, part in parts.items()}
