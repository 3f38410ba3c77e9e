"""Shift splits: what they change, what they keep, and that they pair with test."""

import numpy as np
import pytest

from vitkd_bench.pipeline import Splits
from vitkd_bench.pipeline.decoded import Decoded
from vitkd_bench.pipeline.shifts import SHIFTS, shifted
from vitkd_bench.pipeline.streamed import Streamed
from vitkd_bench.spec import BadInputError


@pytest.mark.parametrize("name", sorted(SHIFTS))
def test_shift_pairs_with_test(digits: Splits, name: str) -> None:
    """Same ids, same labels, same shape, other pixels, the same each time, and not to be written to."""
    once, twice = digits.shift(name), digits.split(f"digits/{name}")
    assert once.ids == digits.test.ids
    assert np.array_equal(once.labels, digits.test.labels)
    assert np.array_equal(once.images, twice.images)
    assert once.images.dtype == np.uint8
    changed = (once.images != digits.test.images).any(axis=(1, 2, 3))
    assert changed.all()
    with pytest.raises(ValueError, match="read-only"):
        once.images[0] = 0


@pytest.mark.parametrize("name", sorted(SHIFTS))
def test_shift_of_an_image_depends_on_it_alone(digits: Splits, name: str) -> None:
    """In a smaller split, in another order, an image is changed the same way."""
    whole, some = digits.shift(name), [7, 3, 200]
    test = digits.test
    part = Decoded(test.images[some], test.labels[some], tuple(test.ids[i] for i in some))
    assert np.array_equal(shifted(part, name).images, whole.images[some])


def test_rotation_turns_by_15_to_30_degrees_to_both_sides() -> None:
    """A bar turns by an angle in the range, about as often to the left as to the right."""
    bar = np.zeros((1, 65, 65), np.uint8)
    bar[:, 32, 8:57] = 255
    images = np.repeat(bar[None], 60, axis=0)
    turned = shifted(Decoded(images, np.zeros(60, np.int64), tuple(map(str, range(60)))), "rotate").images
    y, x = np.mgrid[-32:33, -32:33]
    mass = turned[:, 0].astype(float)
    angle = np.degrees(0.5 * np.arctan2(2 * (mass * x * y).sum((1, 2)), (mass * (x**2 - y**2)).sum((1, 2))))
    assert np.abs(angle).min() > 14.5
    assert np.abs(angle).max() < 30.5
    assert 15 < (angle > 0).sum() < 45


def test_noise_has_its_deviation() -> None:
    """On mid grey the quartiles, which no clipping reaches, are those of a standard deviation of 0.35."""
    grey = Decoded(
        np.full((40, 1, 16, 16), 128, np.uint8), np.zeros(40, np.int64), tuple(map(str, range(40)))
    )
    noise = shifted(grey, "noise").images / 255 - 128 / 255
    low, middle, high = np.percentile(noise, [25, 50, 75])
    assert (high - low) / (2 * 0.6745) == pytest.approx(0.35, abs=0.01)
    assert middle == pytest.approx(0, abs=0.01)


def test_contrast_keeps_the_mean_and_lowers_the_spread(digits: Splits) -> None:
    """Each image keeps its mean and has 0.3 to 0.5 of its spread."""
    before, after = digits.test.images / 255.0, digits.shift("contrast").images / 255.0
    axes = (1, 2, 3)
    assert np.abs(after.mean(axes) - before.mean(axes)).max() < 0.004
    ratio = after.std(axes) / before.std(axes)
    assert 0.29 < ratio.min() < 0.32
    assert 0.48 < ratio.max() < 0.51


def test_blur_spreads_a_dot_evenly() -> None:
    """A dot becomes a symmetric hill of the same weight."""
    dot = np.zeros((1, 1, 9, 9), np.uint8)
    dot[0, 0, 4, 4] = 255
    hill = shifted(Decoded(dot, np.zeros(1, np.int64), ("dot",)), "blur").images[0, 0].astype(int)
    assert np.abs(hill - hill.T).max() <= 1, "two passes, each rounded"
    assert np.array_equal(hill, hill[::-1, ::-1])
    assert hill[4, 4] > hill[4, 5] > 0
    assert hill.sum() == pytest.approx(255, abs=15)


def test_inversion_is_its_own_inverse(digits: Splits) -> None:
    """Twice inverted, an image is itself."""
    once = digits.shift("invert")
    assert np.array_equal(shifted(once, "invert").images, digits.test.images)


def test_a_shift_makes_digits_harder_and_not_impossible(digits: Splits) -> None:
    """Nearest neighbours know fewer of the shifted digits; one that changed nothing would show here."""
    from torch import from_numpy

    from vitkd_bench.measures import knn_accuracy

    def accuracy(part: Decoded | Streamed) -> float:
        features = [from_numpy(p.images.reshape(len(p), -1).astype(np.float64)) for p in (digits.train, part)]
        labels = [from_numpy(p.labels.copy()) for p in (digits.train, part)]
        return knn_accuracy(features[0], labels[0], features[1], labels[1])

    plain = accuracy(digits.test)
    assert plain > 0.96
    for name in ("rotate", "noise", "blur"):
        assert 0.3 < accuracy(digits.shift(name)) < plain - 0.01, name
    assert accuracy(digits.shift("invert")) < 0.3


def test_unknown_shift_and_split_are_refused(digits: Splits) -> None:
    """An unknown name is refused with the nearest one."""
    with pytest.raises(BadInputError, match="did you mean 'rotate'"):
        digits.shift("rotat")
    with pytest.raises(BadInputError, match="did you mean 'digits/rotate'"):
        digits.split("digits_rotate")
    assert digits.split("val") is digits.val
