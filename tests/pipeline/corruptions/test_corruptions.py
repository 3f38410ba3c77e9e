"""Corruptions: the same on every machine, stronger by severity, as their definitions say."""

import hashlib
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from vitkd_bench.pipeline.corruptions import corrupt, corruptions_for
from vitkd_bench.spec import BadInputError
from vitkd_bench.spec.corruptions import CORRUPTIONS, FAMILIES, SEVERITIES, SMALLEST
from vitkd_bench.spec.seeds import seeded

Pixels = NDArray[np.uint8]
KEY = seeded(0, "shift", "made", "train/a/1.png")

GOLDEN = {
    "gaussian_noise": "cd83f6d34e6f",
    "shot_noise": "2dccb18e20f6",
    "impulse_noise": "59c563cd4bfa",
    "defocus_blur": "087250e65d62",
    "glass_blur": "57dce41fc98a",
    "motion_blur": "941e42e1c993",
    "zoom_blur": "793b3097d16f",
    "snow": "14f1edbdc5f0",
    "fog": "7d28a5a3604b",
    "brightness": "b22ad3255d15",
    "contrast": "3c62d13af159",
    "elastic_transform": "52014ca21397",
    "pixelate": "b2d47f44a16d",
    "jpeg_compression": "151c95f3f547",
    "speckle_noise": "f2fad0a06eb0",
    "gaussian_blur": "446294106f5e",
    "spatter": "8ef749d657fb",
    "saturate": "f597be538d2a",
}
"""Of the image that `scene` makes, at severity 3: the first 12 digits of the SHA-256 of the pixels."""

STEPS = {
    "elastic_transform": ((3, 4, 5),),  # 1 and 2 move the whole picture, the others tear at its texture
    "saturate": ((1, 2), (3, 4, 5)),  # paler, then stronger
    "snow": ((1, 2, 4, 5), (1, 3, 4, 5)),  # 2 and 3 whiten alike: finer flakes, then larger ones
    "glass_blur": ((1, 5), (2, 3)),  # as published: farther, but less often
    "spatter": ((1, 2, 3), (4, 5)),  # water, then mud
}


def scene(side: int = 224, channels: int = 3) -> Pixels:
    """A made picture with edges, texture, colours, black and white."""
    y, x = np.mgrid[:side, :side] / side
    waves = 0.5 + 0.25 * np.sin(x * 40) + 0.25 * np.cos(y * 25 * (1 + x))
    disk = (x - 0.4) ** 2 + (y - 0.6) ** 2 < 0.05
    planes = [np.where(disk, 0.9 - 0.3 * c, waves * (1 - 0.2 * c)) for c in range(3)]
    planes = [np.where(y < 0.08, x > 0.5, plane) for plane in planes]
    return np.rint(np.stack(planes[:channels]) * 255).astype(np.uint8)


def difference(image: Pixels, name: str, key: int = KEY) -> float:
    """Mean squared difference to the image, in grey levels."""
    return float(((corrupt(name)(image, key).astype(float) - image) ** 2).mean())


def test_all_families_but_frost_are_there() -> None:
    """18 families in 5 severities, as suites name them; frost says why it is not one of them."""
    assert len(CORRUPTIONS) == 90
    assert CORRUPTIONS[2] == "gaussian_noise@3"
    with pytest.raises(BadInputError, match=r"'frost@2': frost is made with photographs of its authors"):
        corrupt("frost@2")


@pytest.mark.parametrize("family", FAMILIES)
def test_severity_3_is_pinned(family: str) -> None:
    """The pixels that a corruption makes are a published number: they never move."""
    changed = corrupt(f"{family}@3")(scene(), KEY)
    assert hashlib.sha256(changed.tobytes()).hexdigest()[:12] == GOLDEN[family]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_same_key_same_pixels(name: str) -> None:
    """New pixels of the same shape and type, the same each time, also by a copy in another process."""
    image = scene(96)
    before = image.copy()
    image.setflags(write=False)
    once = corrupt(name)(image, KEY)
    assert once.shape == image.shape
    assert once.dtype == np.uint8
    again = pickle.loads(pickle.dumps(corrupt(name)))(image, KEY)  # noqa: S301 - our own bytes
    assert np.array_equal(once, again)
    assert np.array_equal(image, before)
    assert not np.array_equal(once, image)


RANDOM = sorted(
    set(FAMILIES)
    - {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"}
    - {"gaussian_blur", "saturate"}
)


@pytest.mark.parametrize("family", FAMILIES)
def test_another_image_draws_other_numbers(family: str) -> None:
    """Where anything is random it depends on the key; where nothing is, on the image alone."""
    name, image = f"{family}@5", scene(64)
    same = np.array_equal(corrupt(name)(image, KEY), corrupt(name)(image, KEY + 1))
    assert same == (family not in RANDOM)


@pytest.mark.parametrize("family", FAMILIES)
def test_severity_is_monotone(family: str) -> None:
    """Each severity changes the picture more than the one before, where the definition is one series."""
    for series in STEPS.get(family, (SEVERITIES,)):
        for picture in (scene(224), scene(112)):
            differences = [difference(picture, f"{family}@{s}") for s in series]
            assert differences == sorted(differences), series
            assert differences[0] < differences[-1]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 9, 28, 32, 64, 225])
def test_any_square_is_taken(side: int, channels: int) -> None:
    """What is offered for a size and a number of channels works, and changes the picture."""
    picture = scene(side, channels)
    for name in corruptions_for(channels, side):
        changed = corrupt(name)(picture, KEY)
        assert changed.shape == picture.shape, name
        assert changed.dtype == np.uint8, name
        assert not np.array_equal(changed, picture), name


def test_what_would_change_nothing_is_refused() -> None:
    """A blur below a pixel's length, and saturation without colour, say so and what works."""
    for family, sides in SMALLEST.items():
        with pytest.raises(BadInputError, match=rf"{family}@1: at 8 px .* from {sides[0]} px"):
            corrupt(f"{family}@1")(scene(8), KEY)
    with pytest.raises(BadInputError, match=r"at 32 px .*; try gaussian_blur@3"):
        corrupt("gaussian_blur@2")(scene(32), KEY)
    with pytest.raises(BadInputError, match="saturate@2: it changes colour"):
        corrupt("saturate@2")(scene(64, 1), KEY)
    assert len(corruptions_for(3)) == 90
    assert len(corruptions_for(1)) == 85


@given(st.integers(0, 2**64 - 1), st.sampled_from(corruptions_for(3, 16)), st.integers(0, 255))
@settings(max_examples=60, deadline=None)
def test_flat_pictures_stay_in_range(key: int, name: str, level: int) -> None:
    """Black, white and grey squares come back as pixels, without a warning of a division by zero."""
    changed = corrupt(name)(np.full((3, 16, 16), level, np.uint8), key)
    assert changed.dtype == np.uint8


def test_noise_has_its_distribution() -> None:
    """Mean and variance are those of the definitions: Gaussian, Poisson, salt and pepper, in proportion."""
    grey = np.full((1, 300, 300), 102, np.uint8)  # 0.4

    def values(name: str) -> NDArray[np.float64]:
        return corrupt(name)(grey, KEY) / 255

    assert values("gaussian_noise@1").std() == pytest.approx(0.08, abs=0.002)
    assert values("speckle_noise@2").std() == pytest.approx(0.4 * 0.2, abs=0.002)
    shot = np.rint(values("shot_noise@1") * 60)
    assert shot.mean() == pytest.approx(24, abs=0.1)
    assert shot.var() == pytest.approx(24, abs=0.5)
    counts = np.bincount(np.rint(values("shot_noise@5") * 3).astype(int).ravel(), minlength=4)
    expected = stats.poisson(1.2).pmf(range(3))
    assert counts[:3] / grey.size == pytest.approx(expected, abs=0.005)
    impulse = values("impulse_noise@5")
    assert (impulse == 0).mean() == pytest.approx(0.135, abs=0.003)
    assert (impulse == 1).mean() == pytest.approx(0.135, abs=0.003)


def test_contrast_and_brightness_are_exact() -> None:
    """Contrast leaves 0.2 of the distance to each channel's mean; brightness adds 0.3 to the value."""
    image = scene(64)
    mean = image.mean((1, 2), keepdims=True)
    assert np.abs(corrupt("contrast@3")(image, KEY) - (mean + (image - mean) * 0.2)).max() <= 0.501
    bright = corrupt("brightness@3")(image, KEY)
    assert np.abs(bright.max(0) - np.minimum(image.max(0) + 0.3 * 255, 255)).max() <= 0.501


def test_blur_keeps_the_sum_of_a_dot() -> None:
    """A dot in the middle is spread, not lost: over a disk, along a line, by a Gaussian."""
    dot = np.zeros((1, 65, 65), np.uint8)
    dot[:, 31:34, 31:34] = 255
    for name in ("defocus_blur@4", "gaussian_blur@5", "motion_blur@3"):
        spread = corrupt(name)(dot, KEY)
        assert spread.sum() == pytest.approx(9 * 255, rel=0.06), name
        assert spread.max() < 255, name


def test_pictures_of_two_sizes_change_alike() -> None:
    """A blur of the large picture, reduced, is the blur of the reduced one: lengths go with the side."""
    from PIL import Image

    def halved(image: Pixels) -> Pixels:
        box = Image.Resampling.BOX
        return np.stack([np.asarray(Image.fromarray(plane).resize((112, 112), box)) for plane in image])

    large = scene(224)
    for name in ("defocus_blur@4", "gaussian_blur@4", "motion_blur@4", "zoom_blur@4", "fog@3", "snow@5"):
        one, other = halved(corrupt(name)(large, KEY)), corrupt(name)(halved(large), KEY)
        assert np.abs(one.astype(int) - other).mean() < 4, name


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gausian_noise@3", "did you mean 'gaussian_noise'"),
        ("fog", "its severity is 1 to 5: fog@1"),
        ("fog@6", "its severity is 1 to 5: fog@1"),
        ("fog@1.0", "its severity is 1 to 5"),
        ("", "unknown corruption ''"),
    ],
)
def test_unknown_names_are_refused(name: str, says: str) -> None:
    """One line with the nearest name."""
    with pytest.raises(BadInputError, match=says):
        corrupt(name)


def test_other_images_are_refused() -> None:
    """Not square, or of another number of channels."""
    for shape in ((3, 8, 9), (4, 8, 8), (8, 8)):
        with pytest.raises(BadInputError, match="square ones of 1 or 3 channels"):
            corrupt("fog@1")(np.zeros(shape, np.uint8), KEY)
