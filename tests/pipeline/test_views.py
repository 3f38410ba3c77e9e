"""Views: every field of an augmentation does what it says, for each image apart."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vitkd_bench.pipeline import Splits
from vitkd_bench.pipeline.views import augment, plain
from vitkd_bench.spec import Augmentation

FIELDS: dict[str, dict[str, object]] = {
    "shift": {"shift": 2},
    "flip": {"flip": True},
    "crop_scale": {"crop_scale": (0.3, 0.8)},
    "rotate": {"rotate": 25.0},
    "contrast": {"contrast": 0.4},
    "noise": {"noise": 0.1},
    "erase": {"erase": 0.6},
}
EVERYTHING = Augmentation.model_validate({k: v for field in FIELDS.values() for k, v in field.items()})
rules = st.sets(st.sampled_from(sorted(FIELDS))).map(
    lambda names: Augmentation.model_validate({k: v for n in names for k, v in FIELDS[n].items()})
)


def rule_of(name: str) -> Augmentation:
    """An augmentation with one field switched on."""
    return Augmentation.model_validate(FIELDS[name])


def noise_images(count: int, size: tuple[int, int, int] = (3, 9, 9), seed: int = 0) -> np.ndarray:
    """Images of noise."""
    return np.random.default_rng(seed).integers(0, 256, (count, *size), dtype=np.uint8)


def same(left: Tensor, right: Tensor) -> bool:
    """Equal to the last bit."""
    return left.shape == right.shape and left.numpy().tobytes() == right.numpy().tobytes()


@settings(deadline=None, max_examples=60)
@given(
    rules,
    st.integers(0, 2**64 - 1),
    st.integers(1, 17),
    st.sampled_from([(1, 8, 8), (3, 9, 9), (3, 16, 16), (1, 7, 13)]),
    st.randoms(use_true_random=False),
)
def test_a_view_is_the_same_in_any_batch(
    rule: Augmentation, key: int, count: int, size: tuple[int, int, int], random: object
) -> None:
    """An image comes out bit for bit the same alone, in any batch, in any order."""
    images, samples = noise_images(count, size), np.arange(100, 100 + count)
    together = augment(images, samples, rule, key)
    order = np.random.default_rng(random.getrandbits(32)).permutation(count)  # type: ignore[attr-defined]
    assert same(augment(images[order], samples[order], rule, key), together[order])
    for i in range(count):
        assert same(augment(images[i : i + 1], samples[i : i + 1], rule, key)[0], together[i])


def test_large_images_too_are_the_same_in_any_batch() -> None:
    """At 112 pixels the kernels take other ways, with the same result."""
    images, samples = noise_images(5, (3, 112, 112)), np.arange(5)
    together = augment(images, samples, EVERYTHING, 3)
    for i in range(5):
        assert same(augment(images[i : i + 1], samples[i : i + 1], EVERYTHING, 3)[0], together[i])


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_each_field_does_something(digits: Splits, name: str) -> None:
    """Every field changes some images, keeps shape and type and stays in [0, 1]."""
    images = digits.train.images[:64]
    view = augment(images, np.arange(64), rule_of(name), 1)
    assert view.dtype == torch.float32
    assert view.shape == images.shape
    assert view.min() >= 0
    assert view.max() <= 1
    changed = (view != plain(images)).flatten(1).any(dim=1).float().mean()
    assert changed > 0.3


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_views_differ_by_key_and_sample(digits: Splits, name: str) -> None:
    """Another key, or the same image under another number, gives another view."""
    images = np.repeat(digits.train.images[:1], 64, axis=0)
    first, second = (augment(images, np.arange(64), rule_of(name), key) for key in (1, 2))
    assert not same(first, second)
    assert len({view.numpy().tobytes() for view in first}) > 1


def test_nothing_asked_is_nothing_done(digits: Splits) -> None:
    """Without augmentation a view is the plain image."""
    images = digits.train.images[:32]
    assert same(augment(images, np.arange(32), Augmentation(), 1), plain(images))
    assert same(plain(images), torch.from_numpy(images.copy()).float() / 255)


def test_a_field_moves_no_other_draw(digits: Splits) -> None:
    """Flips fall on the same images whether or not noise, contrast or erasing are switched on too."""
    images = digits.train.images[:64]
    mirrored = augment(images, np.arange(64), Augmentation(flip=True), 5)
    both = augment(images, np.arange(64), Augmentation(flip=True, contrast=1e-6, noise=1e-6), 5)
    assert (both - mirrored).abs().max() < 1e-4


def test_shift_moves_whole_pixels_and_fills_with_zero() -> None:
    """A shifted image is the image moved by -2 to 2 pixels each way; all 25 ways occur."""
    images = noise_images(300)
    moved = (augment(images, np.arange(300), Augmentation(shift=2), 1) * 255).round().byte().numpy()
    ways = set()
    padded = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)))
    for i in range(300):
        found = [
            (x, y)
            for x in range(5)
            for y in range(5)
            if np.array_equal(moved[i], padded[i, :, y : y + 9, x : x + 9])
        ]
        assert len(found) == 1
        ways.add(found[0])
    assert len(ways) == 25


def test_shift_counts_native_pixels() -> None:
    """On images enlarged twice, a shift by one native pixel moves by two."""
    small = noise_images(40, (1, 8, 8))
    large = small.repeat(2, axis=2).repeat(2, axis=3)
    moved = augment(small, np.arange(40), Augmentation(shift=1), 9)
    enlarged = augment(large, np.arange(40), Augmentation(shift=1), 9, 2.0)
    assert same(enlarged, moved.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_flip_mirrors_half_of_the_images() -> None:
    """Each image is itself or its mirror image, about as often."""
    images = noise_images(400)
    view = augment(images, np.arange(400), Augmentation(flip=True), 1)
    kept = (view == plain(images)).flatten(1).all(dim=1)
    mirrored = (view == plain(images).flip(-1)).flatten(1).all(dim=1)
    assert bool((kept ^ mirrored).all())
    assert 150 < int(mirrored.sum()) < 250


def test_interpolated_geometry_agrees_with_the_exact_one() -> None:
    """A vanishing rotation changes nothing but the way: flip and shift land on the same pixels."""
    images = noise_images(50)
    exact = augment(images, np.arange(50), Augmentation(flip=True, shift=2), 4)
    mapped = augment(images, np.arange(50), Augmentation(flip=True, shift=2, rotate=1e-9), 4)
    assert (exact - mapped).abs().max() < 1e-4


def ramp(size: int) -> np.ndarray:
    """Brightness equal to the column's place, as one channel, and to the row's as another."""
    across = np.broadcast_to(np.arange(size, dtype=np.uint8) * (255 // size), (size, size))
    return np.stack([across, across.T])


def test_crop_cuts_boxes_of_the_share_asked_for() -> None:
    """The slopes of enlarged ramps give each box: area, ratio and place are as promised."""
    size = 64
    images = np.repeat(ramp(size)[None], 200, axis=0)
    view = augment(images, np.arange(200), Augmentation(crop_scale=(0.3, 0.6)), 2).double() * 255 / 3
    inner = slice(8, -8)
    width = view[:, 0, :, inner].mean(dim=1).diff(dim=-1).mean(dim=1)
    height = view[:, 1, inner, :].mean(dim=2).diff(dim=-1).mean(dim=1)
    area, ratio = width * height, width / height
    assert 0.29 < area.min() < 0.34
    assert 0.56 < area.max() < 0.61
    assert 0.74 < ratio.min() < 0.8
    assert 1.25 < ratio.max() < 1.35
    centre = view[:, 0].mean(dim=(1, 2)) / (size - 1)
    assert centre.min() < 0.38
    assert centre.max() > 0.62
    assert (view[:, :, 0, 0] >= -0.01).all()


def test_crop_has_no_dark_rim() -> None:
    """A bright image stays bright to the edge, wherever it is cropped."""
    white = np.full((50, 3, 16, 16), 255, np.uint8)
    view = augment(white, np.arange(50), Augmentation(crop_scale=(0.2, 1.0), flip=True), 2)
    assert view.min() > 0.999


def angles_of(images: np.ndarray) -> np.ndarray:
    """Direction of the longest extent of each image, in degrees: positive is clockwise."""
    mass = images.astype(np.float64)
    half = images.shape[-1] // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    return np.degrees(0.5 * np.arctan2(2 * (mass * x * y).sum((1, 2)), (mass * (x**2 - y**2)).sum((1, 2))))


def test_rotation_turns_all_of_an_image_within_its_range() -> None:
    """A bar turns by up to the angle, to both sides, and a bar across it by the same angle."""
    bar = np.zeros((100, 1, 65, 65), np.uint8)
    bar[:, :, 32, 8:57] = 255
    rule = Augmentation(rotate=20.0)
    along = angles_of(augment(bar, np.arange(100), rule, 2)[:, 0].numpy())
    assert -20.3 < along.min() < -15
    assert 15 < along.max() < 20.3
    upright = np.ascontiguousarray(bar.transpose(0, 1, 3, 2))
    across = augment(upright, np.arange(100), rule, 2)[:, 0].numpy()
    assert np.abs(angles_of(across.transpose(0, 2, 1)) + along).max() < 0.5


def test_rotation_shows_black_beyond_the_image() -> None:
    """The corners that come into view are black, the rest of a white image stays white."""
    white = np.full((20, 1, 33, 33), 255, np.uint8)
    view = augment(white, np.arange(20), Augmentation(rotate=20.0), 2)
    assert ((view == 0) | (view > 0.99)).all()
    assert (view[:, 0, 16, 16] > 0.99).all()
    assert bool((view == 0).any())


def test_contrast_stays_in_its_range() -> None:
    """Contrast and brightness change each by at most the share asked for."""
    images = (noise_images(300) // 4 + 64).astype(np.uint8)
    before, after = (
        plain(images).flatten(1),
        augment(images, np.arange(300), Augmentation(contrast=0.2), 1).flatten(1),
    )
    brightness = after.mean(dim=1) / before.mean(dim=1)
    contrast = after.std(dim=1) / before.std(dim=1) / brightness
    for ratio in (brightness, contrast):
        assert 0.799 < ratio.min() < 0.83
        assert 1.17 < ratio.max() < 1.201


def test_noise_has_its_deviation() -> None:
    """Noise has the standard deviation asked for, independent between channels."""
    grey = np.full((60, 3, 16, 16), 128, np.uint8)
    added = augment(grey, np.arange(60), Augmentation(noise=0.05), 1) - 128 / 255
    assert added.std().item() == pytest.approx(0.05, abs=0.001)
    channels = added.movedim(1, 0).flatten(1)
    assert (torch.corrcoef(channels) - torch.eye(3)).abs().max() < 0.03


def test_erasing_blanks_one_box_of_some_images() -> None:
    """About the share asked for is erased: one box, all channels, up to a third of the image."""
    white = np.full((300, 3, 20, 20), 255, np.uint8)
    view = augment(white, np.arange(300), Augmentation(erase=0.25), 1)
    blank = view == 0
    erased = blank.flatten(1).any(dim=1)
    assert 50 < int(erased.sum()) < 100
    assert ((view == 1) | blank).all()
    for mask in blank[erased]:
        rows, columns = mask[0].any(dim=1).sum(), mask[0].any(dim=0).sum()
        assert int(mask[0].sum()) == int(rows * columns)
        assert torch.equal(mask[0], mask[2])
        assert 0.015 < float(mask[0].float().mean()) < 0.4
