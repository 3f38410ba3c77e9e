"""The decoded splits of a data set, and its shift splits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from vitkd_bench.contracts import Examples
from vitkd_bench.pipeline.readers import reader_of
from vitkd_bench.pipeline.shifts import shifted
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import BadInputError, ResolvedDataset, WorldError, content_hash, nearest


@dataclass(frozen=True)
class Splits:
    """Train, val and test of a data set, disjoint, as read-only arrays."""

    dataset: ResolvedDataset
    train: Examples
    val: Examples
    test: Examples

    @cached_property
    def split_hash(self) -> str:
        """Hash of the ids and labels of each split, the order of train included: 16 hexadecimal digits."""
        parts = {"train": self.train, "val": self.val, "test": self.test}
        return content_hash(
            {name: [*zip(part.ids, part.labels.tolist(), strict=True)] for name, part in parts.items()}
        )

    def shift(self, name: str) -> Examples:
        """Make a shift split from the images of test; the same ids in the same order, so that the two pair.

        Raises:
            BadInputError: the data set has no such shift.
        """
        if name not in self.dataset.shifts:
            hint = nearest(name, self.dataset.shifts) or "; it has none"
            raise BadInputError(f"data set {self.dataset.name!r}: unknown shift {name!r}{hint}")
        return shifted(self.test, name)

    def split(self, name: str) -> Examples:
        """Give `train`, `val`, `test`, or a shift split as a suite names it: `digits/rotate`.

        Raises:
            BadInputError: there is no such split.
        """
        plain = {"train": self.train, "val": self.val, "test": self.test}
        if name in plain:
            return plain[name]
        if "/" in name:
            return self.shift(name.rpartition("/")[2])
        known = [*plain, *(f"{self.dataset.name}/{shift}" for shift in self.dataset.shifts)]
        raise BadInputError(f"data set {self.dataset.name!r}: unknown split {name!r}{nearest(name, known)}")


def open_splits(dataset: ResolvedDataset, roots: tuple[Path, ...], image_size: int | None = None) -> Splits:
    """Decode the splits of a data set; images (N, C, S, S) uint8 with S = `image_size`, or the native size.

    The last two data sets asked for stay decoded in this process; their files are taken not to change.

    Raises:
        WorldError: a file is missing or cannot be decoded, an id stands twice, or a class lacks images.
    """
    return _opened(dataset.model_dump_json(), roots, image_size)


@lru_cache(maxsize=2)
def _opened(dataset_json: str, roots: tuple[Path, ...], image_size: int | None) -> Splits:
    dataset = ResolvedDataset.model_validate_json(dataset_json)
    entry = DATASETS.get(dataset.name)
    settings = entry.settings.parse(dataset.settings, f"data set {dataset.name!r}")
    parts = reader_of(entry.facts).open(entry.facts, settings, roots, image_size)
    splits = Splits(dataset, parts["train"], parts["val"], parts["test"])
    _check(splits, image_size)
    return splits


def _check(splits: Splits, image_size: int | None) -> None:
    """Hold a reader to its contract: it decides every number, and a stranger may have written it."""
    seen: set[str] = set()
    for name in ("train", "val", "test"):
        part: Examples = getattr(splits, name)
        place = f"data set {splits.dataset.name!r}: {name}"
        _check_arrays(splits, part, image_size, place)
        _check_classes(splits.dataset, part, place)
        twice = seen.intersection(part.ids)
        if twice or len(set(part.ids)) != len(part.ids):
            raise WorldError(f"{place}: an id stands twice: {min(twice or part.ids)!r}")
        seen.update(part.ids)


def _check_arrays(splits: Splits, part: Examples, image_size: int | None, place: str) -> None:
    for field, array, kind in (("images", part.images, np.uint8), ("labels", part.labels, np.int64)):
        if array.dtype != kind or len(array) != len(part.ids):
            raise WorldError(
                f"{place}: {field}: {len(array)} x {array.dtype} for {len(part.ids)} ids; "
                f"its reader has to give one {np.dtype(kind)} entry a sample"
            )
        array.setflags(write=False)
    shape, usual = part.images.shape[1:], splits.train.images.shape[1:]
    wanted = (splits.dataset.channels, *((image_size, image_size) if image_size else usual[1:]))
    if shape != usual or shape != wanted:
        raise WorldError(
            f"{place}: images {shape}, train's are {usual}, asked for {wanted}; set image_size in the recipe"
        )


def _check_classes(dataset: ResolvedDataset, part: Examples, place: str) -> None:
    labels, known = set(part.labels.tolist()), range(len(dataset.classes))
    if missing := set(known) - labels:
        first = min(missing)
        raise WorldError(f"{place}: class {first} ({dataset.classes[first].name}) has no image")
    if more := labels - set(known):
        raise WorldError(f"{place}: class {min(more)} is not in the list of {len(known)} classes")
