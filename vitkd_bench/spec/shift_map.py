"""Which classes of a training set the classes of a shift set are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vitkd_bench.spec.dataset import ResolvedDataset

FEWEST = 2
"""Classes that a shift set has to share with what is trained on: with one of them every answer is right."""


def map_classes(shift: ResolvedDataset, trained: ResolvedDataset) -> dict[int, tuple[int, ...]]:
    """Find the classes of a shift set among those that a student is trained on, by their positions.

    Label spaces are tried in turn: that of the training set, then those in which both name indices, then the
    names of the classes. The first in which two or more classes meet decides. A class of the shift set that
    has no place is left out, one that is several training classes has them all.

    Returns:
        Positions among the training classes, for each class of the shift set that has any; empty where fewer
        than two have.
    """
    for known in _by_space(shift, trained):
        places = {i: own for i, own in _meeting(shift, known) if own}
        if len(places) >= FEWEST:
            return places
    names: dict[str, list[int]] = {}
    for i, info in enumerate(trained.classes):
        names.setdefault(info.spoken.casefold(), []).append(i)
    spoken = [names.get(info.spoken.casefold(), ()) for info in shift.classes]
    found = {i: tuple(own) for i, own in enumerate(spoken) if own}
    return found if len(found) >= FEWEST else {}


def contradiction(shift: ResolvedDataset, trained: ResolvedDataset) -> str | None:
    """Say why classes that two sets share cannot be right; None if nothing speaks against them.

    One label space of two lists of other lengths would take classes for those that happen to stand at their
    place; a training class that is two classes of the shift set could not be scored.
    """
    sizes = len(shift.classes), len(trained.classes)
    if shift.label_space == trained.label_space and sizes[0] != sizes[1]:
        return (
            f"label space {shift.label_space!r} has {sizes[0]} classes here, and {sizes[1]} in {trained.name}"
        )
    owner: dict[int, int] = {}
    for i, places in map_classes(shift, trained).items():
        for place in places:
            if owner.setdefault(place, i) != i:
                one, two = (shift.classes[of].name for of in (owner[place], i))
                return (
                    f"classes {one!r} and {two!r} are both {trained.classes[place].name!r} of {trained.name}"
                )
    return None


def _by_space(shift: ResolvedDataset, trained: ResolvedDataset) -> Iterator[tuple[str, Mapping[int, int]]]:
    """Give the label spaces in which both sets have indices, and the training class at each index."""
    yield trained.label_space, {i: i for i in range(len(trained.classes))}
    of_shift = {shift.label_space, *(space for info in shift.classes for space in info.indices)}
    of_trained = {space for info in trained.classes for space in info.indices}
    for space in sorted(of_shift & of_trained):
        yield space, {index: i for i, info in enumerate(trained.classes) for index in info.places(space)}


def _meeting(
    shift: ResolvedDataset, known: tuple[str, Mapping[int, int]]
) -> Iterator[tuple[int, tuple[int, ...]]]:
    space, positions = known
    for i, info in enumerate(shift.classes):
        places = (i,) if shift.label_space == space else info.places(space)
        yield i, tuple(sorted({positions[index] for index in places if index in positions}))
