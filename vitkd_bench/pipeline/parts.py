"""From the parts that a source publishes to train, val and test: classes, val, and what of train is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitkd_bench.contracts import KnownClass, Part
from vitkd_bench.pipeline.images import ChosenImages
from vitkd_bench.pipeline.selection import carve, draw, drawn_counts
from vitkd_bench.pipeline.tree import find
from vitkd_bench.spec import BadInputError, DatasetSettings, WorldError, nearest


@dataclass(frozen=True, slots=True)
class Choice:
    """What a suite takes of a data set: parts with labels of the kept classes, and how many were skipped."""

    parts: dict[str, Part]
    skipped: int = 0


def choose(
    parts: Mapping[str, Part],
    settings: DatasetSettings,
    known: Sequence[KnownClass],
    kept: Sequence[int],
    skip: frozenset[str] = frozenset(),
) -> Choice:
    """Take the kept classes of each part, carve val from train unless one is published, draw from train.

    Val is carved first, so that it stays the same whatever part of train is drawn. Samples keep their order.

    Args:
        parts: as the reader gives them.
        settings: the suite's.
        known: all classes.
        kept: positions of the classes that stay, in their order.
        skip: whole ids of samples that are left out.

    Raises:
        BadInputError: too few images for what is asked, or a val that is asked for and published.
        WorldError: a sample of no class, or a part that has no image of a kept class.
    """
    for name, part in parts.items():
        refuse_misfit(part, len(known), name)
    whole = {name: _kept(part, kept, len(known), skip) for name, part in parts.items()}
    names = [known[i].info.name for i in kept]
    if "train" in whole:
        _refuse_empty(whole["train"], "train", names)
        if "val" not in whole:
            whole["train"], whole["val"] = _carved(whole["train"], settings, names)
        elif settings.val is not None:
            raise BadInputError("val: this data set has a published val; leave this field out")
        whole["train"] = _drawn(whole["train"], settings, names)
    skipped = sum(_skipped(part, kept, skip) for part in parts.values()) if skip else 0
    return Choice(whole, skipped)


def ids_to_skip(settings: DatasetSettings, roots: tuple[Path, ...], dataset: str) -> frozenset[str]:
    """Read the ids that `settings.skip` names, one a line.

    Raises:
        WorldError: the file is not there.
    """
    if settings.skip is None:
        return frozenset()
    path = find(settings.skip, "skip", roots, dataset)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WorldError(f"{path}: cannot be read as text: {error}") from None
    return frozenset(line.strip() for line in lines if line.strip())


def refuse_unknown(skip: frozenset[str], parts: Mapping[str, Part], where: str) -> None:
    """Refuse ids to skip that no sample has: a list that was made for other files.

    Raises:
        BadInputError: there is one; names it.
    """
    if not skip:
        return
    there = {f"{part.prefix}{id_}" for part in parts.values() for id_ in part.ids}
    if unknown := sorted(skip - there):
        raise BadInputError(f"{where}: skip: no image has the id {unknown[0]!r}{nearest(unknown[0], there)}")


def taken(part: Part, at: NDArray[np.int64], labels: NDArray[np.int64] | None = None) -> Part:
    """Give the samples at some positions of a part, with other labels if they are given."""
    ids = tuple(part.ids[i] for i in at.tolist())
    return Part(
        ChosenImages(part.images, at), part.labels[at] if labels is None else labels, ids, part.prefix
    )


def refuse_misfit(part: Part, classes: int, name: str) -> None:
    """Hold a reader to its contract: it decides every number, and a stranger may have written it.

    Raises:
        WorldError: images, labels and ids that do not fit, an id twice, or a label that is no class.
    """
    if part.labels.dtype != np.int64 or not len(part.labels) == len(part.ids) == len(part.images):
        raise WorldError(
            f"{name}: {len(part.images)} images, {len(part.labels)} labels of {part.labels.dtype} and "
            f"{len(part.ids)} ids; its reader has to give one of each a sample, labels as int64"
        )
    wrong = np.flatnonzero((part.labels < 0) | (part.labels >= classes))
    if len(wrong):
        place, label = part.images.place(int(wrong[0])), part.labels[wrong[0]]
        raise WorldError(f"{name}: {place}: class {label} is none of {classes}")


def _kept(part: Part, kept: Sequence[int], classes: int, skip: frozenset[str]) -> Part:
    numbers = np.full(classes, -1, dtype=np.int64)
    numbers[list(kept)] = np.arange(len(kept))
    labels = numbers[part.labels]
    stays = labels >= 0
    if skip:
        stays &= np.array([f"{part.prefix}{id_}" not in skip for id_ in part.ids], dtype=bool)
    at = np.flatnonzero(stays)
    return taken(part, at, labels[at])


def _skipped(part: Part, kept: Sequence[int], skip: frozenset[str]) -> int:
    """Count the samples of kept classes that are left out."""
    stays = np.isin(part.labels, list(kept)).tolist()
    return sum(f"{part.prefix}{id_}" in skip for id_, stay in zip(part.ids, stays, strict=True) if stay)


def _refuse_empty(part: Part, name: str, names: Sequence[str]) -> None:
    missing = set(range(len(names))) - set(part.labels.tolist())
    if missing:
        first = names[min(missing)]
        raise WorldError(f"{name}: class {first!r} has no image: its folder or list is missing or empty")


def _by_class(part: Part, classes: int) -> list[list[str]]:
    found: list[list[str]] = [[] for _ in range(classes)]
    for label, id_ in zip(part.labels.tolist(), part.ids, strict=True):
        found[label].append(id_)
    return found


def _with_ids(part: Part, ids: set[str]) -> Part:
    return taken(part, np.array([i for i, id_ in enumerate(part.ids) if id_ in ids], dtype=np.int64))


def _carved(part: Part, settings: DatasetSettings, names: Sequence[str]) -> tuple[Part, Part]:
    if settings.val is None:
        raise BadInputError("val: no val is published; say how many images of each class, {per_class: 20}")
    rest, held_out = set(), set()
    for name, ids in zip(names, _by_class(part, len(names)), strict=True):
        stays, val = carve(ids, settings.val, name)
        rest.update(stays)
        held_out.update(val)
    return _with_ids(part, rest), _with_ids(part, held_out)


def _drawn(part: Part, settings: DatasetSettings, names: Sequence[str]) -> Part:
    subset = settings.subset
    if subset is None or (subset.per_class is None and subset.long_tail is None):
        return part
    by_class = _by_class(part, len(names))
    counts = drawn_counts([len(ids) for ids in by_class], subset)
    stays, field = set(), "subset.long_tail" if subset.long_tail else "subset.per_class"
    for name, ids, count in zip(names, by_class, counts, strict=True):
        stays.update(draw(ids, count, subset.seed, name, field))
    return _with_ids(part, stays)
