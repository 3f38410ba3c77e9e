"""Batches: the shuffled, augmented stream of an epoch, and plain passes over a split."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitkd_bench.contracts import Batch, Examples, Look
from vitkd_bench.pipeline.draws import permutation
from vitkd_bench.pipeline.loader import IN_PROCESS, Loading, as_float, load, ready
from vitkd_bench.pipeline.mixing import mix
from vitkd_bench.spec import BadInputError, Recipe
from vitkd_bench.spec.seeds import seeded


class TrainStream:
    """One epoch of training: batches in the order that (seed, epoch) shuffles, each view drawn apart.

    The streams are named `order`, `augmentation` and `mixing`. Step `k` can be asked for directly
    (`batch(k)`), so that an interrupted epoch goes on where it stopped. The last batch is kept if it has two
    samples or more, as a loss that relates samples needs two; a single left-over sample waits for another
    epoch's order. Under repeated augmentation an epoch has as many steps, of the first images of its order.
    """

    def __init__(
        self,
        examples: Examples,
        recipe: Recipe,
        seed: int,
        views: int = 1,
        epoch: int = 0,
        *,
        teacher: Look | None = None,
        teacher_view: int = 0,
    ) -> None:
        """Shuffle one epoch.

        Args:
            examples: the training split, shown as the student sees it.
            recipe: batch size, augmentation, epochs and label smoothing are read.
            seed: the run's.
            views: independently augmented views of each image, the first included.
            epoch: counts from 0.
            teacher: how the teacher is shown the images, where that is otherwise.
            teacher_view: the view that it is shown.

        Raises:
            BadInputError: fewer than two training images, or a batch size of one.
        """
        if len(examples) < 2 or recipe.batch_size < 2:
            raise BadInputError(
                f"training: {len(examples)} images in batches of {recipe.batch_size}; two of each are needed"
            )
        self.examples = examples
        self.recipe = recipe
        self.epoch = epoch
        shuffled = permutation(seeded(seed, "order", epoch), len(examples))
        self.order, self._draws = _repeated(shuffled, recipe.augmentation.repeated)
        self._seed, self._classes = seed, int(examples.labels.max()) + 1  # a training split has every class
        self._keys = [seeded(seed, "augmentation", epoch, view) for view in range(views)]
        self._teacher, self._teacher_view = teacher, teacher_view

    def __len__(self) -> int:
        """Count the steps of the epoch."""
        whole, rest = divmod(len(self.examples), self.recipe.batch_size)
        return whole + (rest >= 2)

    def __iter__(self) -> Iterator[Batch]:
        """Give all batches in order."""
        return (self.batch(step) for step in range(len(self)))

    def batch(self, step: int) -> Batch:
        """Make the batch of one step, 0 to `len(self) - 1`.

        Raises:
            IndexError: the epoch has no such step.
            WorldError: an image cannot be decoded; names it.
        """
        return ready(self.raw(step))

    def raw(self, step: int) -> Batch:
        """Make the batch of one step with pixels that may still be uint8; see `loader.ready`.

        Raises:
            IndexError: the epoch has no such step.
            WorldError: an image cannot be decoded; names it.
        """
        if not 0 <= step < len(self):
            raise IndexError(f"epoch {self.epoch} has {len(self)} steps, asked for {step}")
        size = self.recipe.batch_size
        within = slice(step * size, (step + 1) * size)
        samples = self.order[within]
        labels = torch.from_numpy(self.examples.labels[samples])
        views, for_teacher = self._views(samples, self._draws[within])
        mixed = None
        if self.recipe.augmentation.mixes:
            key = seeded(self._seed, "mixing", self.epoch, step)
            shown = [as_float(view) for view in (*views, *for_teacher)]
            shown, mixed = mix(shown, labels, self.recipe.augmentation, self._classes, key)
            views, for_teacher = shown[: len(views)], shown[len(views) :]
        return Batch(
            pixels=views[0],
            labels=labels,
            ids=torch.from_numpy(samples.copy()),
            epoch=self.epoch,
            progress=(self.epoch * len(self) + step) / (self.recipe.epochs * len(self)),
            train_size=len(self.examples),
            label_smoothing=self.recipe.label_smoothing,
            views=tuple(views[1:]),
            mixed=mixed,
            teacher_pixels=for_teacher[0] if for_teacher else None,
        )

    def _views(
        self, samples: NDArray[np.int64], draws: NDArray[np.int64]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Give all views as the student sees them, and the one for the teacher if it sees it otherwise."""
        views, for_teacher = [], []
        for i, key in enumerate(self._keys):
            looks = [self.examples.look]
            if self._teacher is not None and i == self._teacher_view:
                looks.append(self._teacher)
            own, *other = self.examples.augmented(samples, draws, self.recipe.augmentation, key, looks)
            views.append(own)
            for_teacher += other
        return views, for_teacher


def _repeated(order: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Put each sample `count` times in a row, and number the views: a sample's first by its own number."""
    samples, nth = np.repeat(order, count), np.tile(np.arange(count), len(order))
    return samples[: len(order)], (samples + nth * len(order))[: len(order)]


def plain_batches(examples: Examples, batch_size: int) -> Iterator[Batch]:
    """Give the training images once, in order, without augmentation, as `Method.fit` reads them."""
    return map(ready, raw_batches(examples, batch_size, train_size=len(examples)))


def eval_batches(examples: Examples, batch_size: int) -> Iterator[Batch]:
    """Give every sample of a split exactly once, in order, not augmented; the last batch may be small."""
    return map(ready, raw_batches(examples, batch_size))


def raw_batches(
    examples: Examples,
    batch_size: int,
    train_size: int = 0,
    teacher: Look | None = None,
    loading: Loading = IN_PROCESS,
) -> Iterator[Batch]:
    """Give every sample once, in order, not augmented, with pixels as uint8; see `loader.ready`.

    Args:
        examples: a split.
        batch_size: of all batches but the last.
        train_size: what the batches say of the number of training images.
        teacher: how the teacher is shown the images, where that is otherwise.
        loading: who makes the batches.
    """
    make = partial(_plain, examples, batch_size, train_size, teacher)
    return load(make, -(-len(examples) // batch_size), loading)


def _plain(examples: Examples, size: int, train_size: int, teacher: Look | None, step: int) -> Batch:
    samples = np.arange(step * size, min((step + 1) * size, len(examples)), dtype=np.int64)
    return Batch(
        pixels=examples.plain(samples),
        labels=torch.from_numpy(examples.labels[samples]),
        ids=torch.from_numpy(samples),
        train_size=train_size,
        teacher_pixels=None if teacher is None else examples.plain(samples, teacher),
    )
