"""Batches: order, epochs, views, and what depends on what."""

from collections.abc import Iterable

import numpy as np
import pytest
import torch

from vitkd_bench.contracts import Batch
from vitkd_bench.pipeline import Splits, TrainStream, eval_batches, plain_batches
from vitkd_bench.pipeline.decoded import Decoded
from vitkd_bench.spec import Augmentation, BadInputError, Recipe

AUGMENTED = Augmentation(shift=1, rotate=10.0, noise=0.05)


def recipe(batch_size: int = 100, augmentation: Augmentation = AUGMENTED) -> Recipe:
    """A recipe of four epochs."""
    return Recipe(epochs=4, batch_size=batch_size, lr=1e-3, label_smoothing=0.1, augmentation=augmentation)


def few(digits: Splits, count: int) -> Decoded:
    """The first training digits."""
    part = digits.train
    return Decoded(part.images[:count], part.labels[:count], part.ids[:count])


def ids_of(batches: Iterable[Batch]) -> list[int]:
    """Positions of all samples, in order."""
    return [int(i) for batch in batches for i in batch.ids]


def test_an_epoch_has_every_sample_once(digits: Splits) -> None:
    """All training images come once, shuffled, each with its label."""
    stream = TrainStream(digits.train, recipe(), 0)
    batches = list(stream)
    ids = ids_of(batches)
    assert sorted(ids) == list(range(1078))
    assert ids != sorted(ids)
    assert [len(b.ids) for b in batches] == [100] * 10 + [78]
    assert len(stream) == 11
    labels = torch.cat([b.labels for b in batches]).numpy()
    assert np.array_equal(labels, digits.train.labels[ids])


@pytest.mark.parametrize(("count", "sizes"), [(8, [4, 4]), (9, [4, 4]), (10, [4, 4, 2]), (3, [3]), (2, [2])])
def test_a_single_left_over_sample_waits(digits: Splits, count: int, sizes: list[int]) -> None:
    """The last batch is kept from two samples on."""
    stream = TrainStream(few(digits, count), recipe(4), 0)
    assert [len(b.ids) for b in stream] == sizes
    assert len(stream) == len(sizes)


def test_the_left_over_sample_changes_with_the_epoch(digits: Splits) -> None:
    """No sample is left out for good."""
    part = few(digits, 9)
    seen = {i for epoch in range(4) for i in ids_of(TrainStream(part, recipe(4), 0, epoch=epoch))}
    assert seen == set(range(9))


def test_order_depends_on_seed_and_epoch_alone(digits: Splits) -> None:
    """Same seed and epoch, same order, whatever the batch size, views or augmentation; else another."""
    first = ids_of(TrainStream(digits.train, recipe(), 0, epoch=1))
    other = TrainStream(digits.train, recipe(77, Augmentation()), 0, views=2, epoch=1)
    assert ids_of(other) == first
    assert ids_of(TrainStream(digits.train, recipe(), 0, epoch=2)) != first
    assert ids_of(TrainStream(digits.train, recipe(), 1, epoch=1)) != first


def test_pixels_of_a_sample_do_not_depend_on_its_batch(digits: Splits) -> None:
    """With another batch size each sample of the epoch has the same pixels, bit for bit."""
    found = []
    for size in (100, 33):
        batches = list(TrainStream(digits.train, recipe(size), 3, epoch=1))
        pixels, ids = torch.cat([b.pixels for b in batches]), torch.cat([b.ids for b in batches])
        found.append(pixels[ids.argsort()])
    assert torch.equal(*found)


def test_views_are_independent_and_the_first_stays(digits: Splits) -> None:
    """A method that asks for a second view gets one, and does not change the first for the others."""
    alone = TrainStream(digits.train, recipe(), 0).batch(0)
    both = TrainStream(digits.train, recipe(), 0, views=2).batch(0)
    assert torch.equal(alone.pixels, both.pixels)
    assert alone.views == ()
    assert len(both.views) == 1
    assert not torch.equal(both.pixels, both.views[0])
    assert both.views[0].shape == both.pixels.shape


def test_augmentation_changes_with_epoch_and_seed(digits: Splits) -> None:
    """The same sample looks different in another epoch and under another seed."""

    def pixels_of_first(seed: int, epoch: int) -> torch.Tensor:
        batches = list(TrainStream(few(digits, 50), recipe(50), seed, epoch=epoch))
        return batches[0].pixels[batches[0].ids == 0]

    views = [pixels_of_first(0, 0), pixels_of_first(0, 1), pixels_of_first(1, 0)]
    assert not any(torch.equal(views[a], views[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    assert torch.equal(views[0], pixels_of_first(0, 0))


def test_an_epoch_can_be_entered_at_any_step(digits: Splits) -> None:
    """Step k asked for directly is step k of the epoch, so a run killed in mid-epoch goes on."""
    stream = TrainStream(digits.train, recipe(), 0, epoch=2)
    for step, batch in enumerate(stream):
        again = stream.batch(step)
        assert torch.equal(batch.pixels, again.pixels)
        assert torch.equal(batch.ids, again.ids)
    with pytest.raises(IndexError, match="11 steps, asked for 11"):
        stream.batch(11)


def test_batch_says_where_training_is(digits: Splits) -> None:
    """Epoch, progress, number of training images and label smoothing come with every batch."""
    progress = [b.progress for epoch in range(4) for b in TrainStream(digits.train, recipe(), 0, epoch=epoch)]
    assert progress == [step / 44 for step in range(44)]
    batch = TrainStream(digits.train, recipe(), 0, epoch=3).batch(0)
    assert (batch.epoch, batch.train_size, batch.label_smoothing) == (3, 1078, 0.1)
    assert batch.labels.dtype == batch.ids.dtype == torch.int64


def test_stream_leaves_the_global_generators_alone(digits: Splits) -> None:
    """Making batches draws nothing from the global generators, and nothing in them moves a batch."""
    before = torch.random.get_rng_state(), repr(np.random.get_state())  # noqa: NPY002 - the global one
    first = TrainStream(digits.train, recipe(), 0).batch(0)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert before[1] == repr(np.random.get_state())  # noqa: NPY002
    torch.manual_seed(5)
    assert torch.equal(first.pixels, TrainStream(digits.train, recipe(), 0).batch(0).pixels)


@pytest.mark.parametrize(("count", "batch_size"), [(1, 4), (10, 1)])
def test_too_little_to_train_on_is_refused(digits: Splits, count: int, batch_size: int) -> None:
    """One image, or batches of one, are refused."""
    with pytest.raises(BadInputError, match="two of each"):
        TrainStream(few(digits, count), recipe(batch_size), 0)


@pytest.mark.parametrize("batch_size", [1, 7, 100, 1000])
def test_evaluation_has_every_sample_once_in_order(digits: Splits, batch_size: int) -> None:
    """Whatever the batch size, nothing is padded, dropped or repeated; pixels are plain."""
    batches = list(eval_batches(digits.val, batch_size))
    assert ids_of(batches) == list(range(269))
    pixels = torch.cat([b.pixels for b in batches])
    assert np.array_equal((pixels * 255).round().byte().numpy(), digits.val.images)
    assert np.array_equal(torch.cat([b.labels for b in batches]).numpy(), digits.val.labels)


def test_plain_batches_know_the_size_of_training(digits: Splits) -> None:
    """`Method.fit` gets the training images once, unaugmented, and how many there are."""
    batches = list(plain_batches(digits.train, 500))
    assert [len(b.ids) for b in batches] == [500, 500, 78]
    assert {b.train_size for b in batches} == {1078}


def test_shift_is_in_native_pixels(digits: Splits) -> None:
    """At twice the size, the stream moves an image by twice the pixels."""
    small = few(digits, 20)
    twice = small.images.repeat(2, axis=2).repeat(2, axis=3)
    large = Decoded(twice, small.labels, small.ids, native_side=8)
    rule = recipe(20, Augmentation(shift=1))
    near = TrainStream(small, rule, 0).batch(0).pixels
    far = TrainStream(large, rule, 0).batch(0).pixels
    assert torch.equal(far, near.repeat_interleave(2, 2).repeat_interleave(2, 3))
