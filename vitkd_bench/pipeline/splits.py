"""The splits of a data set, ready to be shown, and its shift splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitkd_bench.contracts import Look, Part, Reader
from vitkd_bench.pipeline.corruptions import CORRUPTIONS
from vitkd_bench.pipeline.decoded import Decoded, decode_part
from vitkd_bench.pipeline.parts import Choice, choose, ids_to_skip, refuse_unknown
from vitkd_bench.pipeline.readers import reader_of
from vitkd_bench.pipeline.selection import chosen
from vitkd_bench.pipeline.shifts import shifted
from vitkd_bench.pipeline.streamed import Streamed
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import (
    BadInputError,
    Dataset,
    DatasetSettings,
    ResolvedDataset,
    WorldError,
    content_hash,
    nearest,
)

TRAINED = ("train", "val", "test")


@dataclass(frozen=True)
class Splits:
    """Train, val and test of a data set, disjoint; of a shift set test alone.

    `skipped` counts the images that the setting `skip` left out.
    """

    dataset: ResolvedDataset
    parts: Mapping[str, Decoded | Streamed]
    skipped: int = 0

    @property
    def train(self) -> Decoded | Streamed:
        """What is trained on."""
        return self._part("train")

    @property
    def val(self) -> Decoded | Streamed:
        """What choices are made on."""
        return self._part("val")

    @property
    def test(self) -> Decoded | Streamed:
        """What is reported."""
        return self._part("test")

    @cached_property
    def split_hash(self) -> str:
        """Hash of the ids and labels of each split, the order of train included: 16 hexadecimal digits."""
        return hash_of({name: (part.ids, part.labels) for name, part in self.parts.items()})

    def shift(self, name: str) -> Decoded | Streamed:
        """Make a shift split from the images of test; the same ids in the same order, so that the two pair.

        It is one of the data set's own, or a corruption (`fog@3`).

        Raises:
            BadInputError: the data set has no such shift.
        """
        if name not in {*self.dataset.shifts, *CORRUPTIONS}:
            hint = nearest(name, self.dataset.shifts) or "; it has none"
            raise BadInputError(f"data set {self.dataset.name!r}: unknown shift {name!r}{hint}")
        return shifted(self.test, name)

    def split(self, name: str) -> Decoded | Streamed:
        """Give `train`, `val`, `test`, or a shift split as a suite names it: `digits/rotate`.

        Raises:
            BadInputError: there is no such split.
        """
        if name in self.parts:
            return self.parts[name]
        if "/" in name:
            return self.shift(name.rpartition("/")[2])
        known = [*self.parts, *(f"{self.dataset.name}/{shift}" for shift in self.dataset.shifts)]
        raise BadInputError(f"data set {self.dataset.name!r}: unknown split {name!r}{nearest(name, known)}")

    def _part(self, name: str) -> Decoded | Streamed:
        if name not in self.parts:
            raise BadInputError(f"data set {self.dataset.name!r} is a shift set and has no {name}")
        return self.parts[name]


def hash_of(splits: Mapping[str, tuple[Sequence[str], NDArray[np.int64]]]) -> str:
    """Hash whole ids and labels of splits, in their order: 16 hexadecimal digits."""
    return content_hash(
        {name: [*zip(ids, labels.tolist(), strict=True)] for name, (ids, labels) in splits.items()}
    )


def open_splits(
    dataset: ResolvedDataset,
    roots: tuple[Path, ...],
    image_size: int | None = None,
    others: tuple[Look, ...] = (),
    crop: float = 1.0,
) -> Splits:
    """Open the splits of a data set; images are shown at `image_size`, or at the native size.

    Images are decoded now or each time they are shown, as the data set says. The last two data sets asked
    for stay open in this process; their files are taken not to change.

    Args:
        dataset: as `resolve_dataset` gives it.
        roots: folders in which its files are looked for.
        image_size: side in pixels.
        others: further looks that will be asked for: a teacher's.
        crop: share of the side that is shown of images that are not augmented; those of train that are
            decoded once are whole, as crops are cut from them.

    Raises:
        WorldError: a file is missing or cannot be decoded, an id stands twice, or a class lacks images.
        BadInputError: settings ask for more than there is.
    """
    return _opened(dataset.model_dump_json(), roots, image_size, others, crop)


@lru_cache(maxsize=2)
def _opened(
    dataset_json: str, roots: tuple[Path, ...], image_size: int | None, others: tuple[Look, ...], crop: float
) -> Splits:
    dataset = ResolvedDataset.model_validate_json(dataset_json)
    entry = DATASETS.get(dataset.name)
    settings = entry.settings.parse(dataset.settings, f"data set {dataset.name!r}")
    choice = chosen_parts(entry.facts, settings, roots)
    _check_parts(dataset, choice.parts, settings)
    side = image_size or dataset.image_size
    look = Look(side) if side else None
    if dataset.decode == "once":
        decoded = {
            name: decode_part(part, look, others, dataset.image_size, 1.0 if name == "train" else crop)
            for name, part in choice.parts.items()
        }
        for name, part in decoded.items():
            _check_images(dataset, part, decoded, image_size, name)
        return Splits(dataset, decoded, choice.skipped)
    if look is None:
        raise BadInputError(f"data set {dataset.name!r}: images differ in size; set image_size in the recipe")
    shown = partial(_streamed, dataset, look=look, crop=crop, scaled=settings.jpeg == "scaled")
    streamed = {name: shown(part=part) for name, part in choice.parts.items()}
    return Splits(dataset, streamed, choice.skipped)


def chosen_parts(facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]) -> Choice:
    """Find what a reader finds, and take of it what the settings say; nothing is decoded.

    Raises:
        WorldError: a file is missing or laid out otherwise, or a kept class has no training image.
        BadInputError: settings ask for more than there is.
    """
    reader: Reader = reader_of(facts)
    known = reader.classes(facts, settings, roots)
    kept, _ = chosen(facts, settings, known)
    parts = reader.parts(facts, settings, roots)
    skip = ids_to_skip(settings, roots, facts.name)
    where = f"data set {facts.name!r}"
    refuse_unknown(skip, parts, where)
    try:
        return choose(parts, settings, known, kept, skip)
    except (BadInputError, WorldError) as error:
        raise type(error)(f"{where}: {error}") from None


def _streamed(dataset: ResolvedDataset, part: Part, look: Look, crop: float, *, scaled: bool) -> Streamed:
    part.labels.setflags(write=False)
    ids = tuple(f"{part.prefix}{id_}" for id_ in part.ids)
    side = dataset.image_size
    return Streamed(part.images, part.labels, ids, look, dataset.channels, crop, side, scaled=scaled)


def _check_parts(dataset: ResolvedDataset, parts: Mapping[str, Part], settings: DatasetSettings) -> None:
    """Hold a reader to its contract: it decides every number, and a stranger may have written it."""
    seen: set[str] = set()
    if missing := sorted(set(TRAINED if "train" in parts else ("test",)) - parts.keys()):
        raise WorldError(f"data set {dataset.name!r}: its reader gives no {missing[0]}")
    for name, part in parts.items():
        place = f"data set {dataset.name!r}: {name}"
        sparse = name == "val" and settings.val is not None and settings.val.share is not None
        _check_classes(dataset, part, place, complete=not sparse)
        ids = [f"{part.prefix}{id_}" for id_ in part.ids]
        twice = seen.intersection(ids)
        if twice or len(set(ids)) != len(ids):
            raise WorldError(f"{place}: an id stands twice: {min(twice or _repeated(ids))!r}")
        seen.update(ids)


def _repeated(ids: list[str]) -> list[str]:
    ordered = sorted(ids)
    return [one for one, other in pairwise(ordered) if one == other]


def _check_images(
    dataset: ResolvedDataset,
    part: Decoded,
    parts: Mapping[str, Decoded],
    image_size: int | None,
    name: str,
) -> None:
    part.labels.setflags(write=False)
    for images in (part.images, *part.others.values()):
        images.setflags(write=False)
    first = parts["train" if "train" in parts else "test"]
    shape, usual = part.images.shape[1:], first.images.shape[1:]
    wanted = (dataset.channels, *((image_size, image_size) if image_size else usual[1:]))
    if part.images.dtype != np.uint8 or shape != usual or shape != wanted:
        raise WorldError(
            f"data set {dataset.name!r}: {name}: images {shape} {part.images.dtype}, train's are {usual}, "
            f"asked for {wanted} uint8; set image_size in the recipe"
        )


def _check_classes(dataset: ResolvedDataset, part: Part, place: str, *, complete: bool) -> None:
    labels, known = set(part.labels.tolist()), range(len(dataset.classes))
    if complete and (missing := set(known) - labels):
        first = min(missing)
        raise WorldError(f"{place}: class {first} ({dataset.classes[first].name}) has no image")
    if more := labels - set(known):
        raise WorldError(f"{place}: class {min(more)} is not in the list of {len(known)} classes")
