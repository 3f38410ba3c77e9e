"""Batches: the shuffled, augmented stream of an epoch, and plain passes over a split."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from vitkd_bench.contracts import Batch, Examples
from vitkd_bench.pipeline.draws import permutation
from vitkd_bench.pipeline.mixing import mix
from vitkd_bench.pipeline.views import augment, plain
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
        native_size: int | None = None,
    ) -> None:
        """Shuffle one epoch.

        Args:
            examples: the training split, at the size at which it is used.
            recipe: batch size, augmentation, epochs and label smoothing are read.
            seed: the run's.
            views: independently augmented views of each image, the first included.
            epoch: counts from 0.
            native_size: side of the images as published, whose pixels a shift counts (None: as they are).

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
        self._pixel = examples.images.shape[-1] / native_size if native_size else 1.0

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
        """
        if not 0 <= step < len(self):
            raise IndexError(f"epoch {self.epoch} has {len(self)} steps, asked for {step}")
        size, rule = self.recipe.batch_size, self.recipe.augmentation
        within = slice(step * size, (step + 1) * size)
        samples = self.order[within]
        images, labels = self.examples.images[samples], torch.from_numpy(self.examples.labels[samples])
        views = [augment(images, self._draws[within], rule, key, self._pixel) for key in self._keys]
        mixed = None
        if rule.mixes:
            views, mixed = mix(
                views, labels, rule, self._classes, seeded(self._seed, "mixing", self.epoch, step)
            )
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
        )


def _repeated(order: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Put each sample `count` times in a row, and number the views: a sample's first by its own number."""
    samples, nth = np.repeat(order, count), np.tile(np.arange(count), len(order))
    return samples[: len(order)], (samples + nth * len(order))[: len(order)]


def plain_batches(examples: Examples, batch_size: int) -> Iterator[Batch]:
    """Give the training images once, in order, without augmentation, as `Method.fit` reads them."""
    return _in_order(examples, batch_size, train_size=len(examples))


def eval_batches(examples: Examples, batch_size: int) -> Iterator[Batch]:
    """Give every sample of a split exactly once, in order, not augmented; the last batch may be small."""
    return _in_order(examples, batch_size, train_size=0)


def _in_order(examples: Examples, batch_size: int, train_size: int) -> Iterator[Batch]:
    for start in range(0, len(examples), batch_size):
        samples: NDArray[np.int64] = np.arange(start, min(start + batch_size, len(examples)), dtype=np.int64)
        yield Batch(
            pixels=plain(examples.images[samples]),
            labels=torch.from_numpy(examples.labels[samples]),
            ids=torch.from_numpy(samples),
            train_size=train_size,
        )
