"""Random choices of controls: functions of the run's seed and the step, never of what was drawn before."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Generator, Tensor

from vitkd_bench.spec import seeded

Among = Literal["any", "same_class", "other_class"]


def stream(seed: int, *names: str | int) -> Generator:
    """Start the stream of a control that `names` name."""
    return Generator().manual_seed(seeded(seed, "control", *names))


def of_step(seed: int, ids: Tensor, labels: Tensor | None, epoch: int) -> Generator:
    """Start the stream of one step, told by epoch and first image; without labels, of a batch at test."""
    where = "test" if labels is None else epoch
    return stream(seed, "step", where, int(ids[0]))


def cycle(count: int, generator: Generator) -> Tensor:
    """Draw a permutation (count,) that is one cycle: of two or more nothing stays in its place."""
    return _rolled(torch.randperm(count, generator=generator), 1)


def partners(count: int, labels: Tensor | None, among: Among, generator: Generator) -> Tensor:
    """Give each of `count` images another one of the batch, every one to one of them: (count,), on the CPU.

    `same_class`: of its own class; those alone of their class exchange among themselves. `other_class`: of
    another, as far as no class fills more than half of the batch. Without labels any other image, and for
    `same_class` the image itself, which is the one of its class that needs no label to be found. A single
    image is its own partner.
    """
    if labels is None:
        return torch.arange(count) if among == "same_class" else cycle(count, generator)
    if among == "any" or count < 2:
        return cycle(count, generator)
    order, sizes = _by_class(labels.cpu(), generator)
    if among == "other_class":
        most = int(sizes.max())
        return _rolled(order, most if most < count else 1)
    return _within(list(order.split(sizes.tolist())), count)


def _by_class(labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Put a batch in an order that is random but for its classes, which lie together; with their sizes."""
    _, classes = labels.unique(return_inverse=True)
    rank = torch.randperm(int(classes.max()) + 1, generator=generator)[classes]
    mixed = torch.randperm(len(labels), generator=generator)
    order = mixed[rank[mixed].argsort(stable=True)]
    return order, rank.bincount()


def _within(groups: list[Tensor], count: int) -> Tensor:
    alone = [group for group in groups if len(group) == 1]
    rest = [group for group in groups if len(group) > 1]
    if alone:
        # a single one has nobody to exchange with, and joins a class
        joined = [*alone, rest.pop()] if len(alone) == 1 else alone
        rest.append(torch.cat(joined))
    found = torch.empty(count, dtype=torch.long)
    for group in rest:
        found[group] = group.roll(-1)
    return found


def _rolled(order: Tensor, by: int) -> Tensor:
    """Lead each in `order` to the one `by` places further on."""
    found = torch.empty_like(order)
    found[order] = order.roll(-by)
    return found
