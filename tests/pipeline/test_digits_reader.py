"""The digits: a fixed, stratified split, the same everywhere."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest

from vitkd_bench.contracts import class_indices
from vitkd_bench.pipeline import Splits, open_splits, resolve_dataset
from vitkd_bench.pipeline.readers.digits import load_digits
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import BadInputError, Head, ResolvedDataset

SPLIT_HASH = "f87d3cbcd77ab7c3"
FRESH = """
import hashlib, json, sys
from vitkd_bench.pipeline import open_splits, resolve_dataset
from vitkd_bench.registry import DATASETS
splits = open_splits(resolve_dataset(DATASETS.get("digits"), {}, ()), ())
shifts = {n: hashlib.sha256(splits.shift(n).images.tobytes()).hexdigest() for n in splits.dataset.shifts}
print(json.dumps([splits.split_hash, shifts, "sklearn.datasets" in sys.modules]))
"""


def resolved(settings: dict[str, object]) -> ResolvedDataset:
    """The digits under some settings."""
    return resolve_dataset(DATASETS.get("digits"), settings, (), "suite.yaml: datasets[0]")


def test_pixels_and_labels_are_those_of_scikit_learn() -> None:
    """Our own reading of the file gives what sklearn gives, scaled to 0..255."""
    from sklearn.datasets import load_digits as reference

    bunch = reference()
    images, labels = load_digits()
    assert np.array_equal(labels, bunch.target)
    assert np.array_equal(images, np.rint(bunch.images * 255 / 16))
    assert (images.min(), images.max()) == (0, 255)


def test_split_is_pinned(digits: Splits) -> None:
    """Ids and labels of every split are those that published records name."""
    assert digits.split_hash == SPLIT_HASH
    assert [len(digits.train), len(digits.val), len(digits.test)] == [1078, 269, 450]


def test_split_is_stratified_and_disjoint(digits: Splits) -> None:
    """Each class has 60, 15 and 25 per cent in train, val and test; nothing stands twice or is lost."""
    parts = [digits.train, digits.val, digits.test]
    counts = np.stack([np.bincount(part.labels, minlength=10) for part in parts])
    shares = counts / counts.sum(axis=0)
    assert np.abs(shares - [[0.6], [0.15], [0.25]]).max() < 0.005
    ids = [i for part in parts for i in part.ids]
    assert sorted(ids) == [f"digits/{i:04d}" for i in range(1797)]


def test_an_id_names_its_image(digits: Splits) -> None:
    """`digits/0042` is image 42 of the file, with its label, in whatever split."""
    images, labels = load_digits()
    for part in (digits.train, digits.val, digits.test):
        at = [int(i.removeprefix("digits/")) for i in part.ids]
        assert np.array_equal(part.images[:, 0], images[at])
        assert np.array_equal(part.labels, labels[at])


def test_fresh_process_gives_the_same() -> None:
    """Another process, with another hash seed, makes the same splits and the same shift images."""
    said = subprocess.run(
        [sys.executable, "-W", "error", "-c", FRESH], capture_output=True, check=True, text=True
    ).stdout
    split_hash, shifts, imported = json.loads(said)
    assert split_hash == SPLIT_HASH
    splits = open_splits(resolved({}), ())
    assert shifts == {
        name: hashlib.sha256(splits.shift(name).images.tobytes()).hexdigest() for name in shifts
    }
    assert len(set(shifts.values())) == 5
    assert imported is False, "importing sklearn.datasets costs a worker a second"


def test_published_pixel_statistics_are_those_of_train(digits: Splits) -> None:
    """Mean and deviation in the facts are what the training images have."""
    pixels = digits.train.images / 255
    facts = digits.dataset.pixels
    assert pixels.mean() == pytest.approx(facts.mean[0], abs=1e-4)
    assert pixels.std() == pytest.approx(facts.std[0], abs=1e-4)


def test_subset_takes_classes_and_draws_images(digits: Splits) -> None:
    """A subset has its first classes, so many training images of each, and all of val and test of them."""
    splits = open_splits(resolved({"subset": {"classes": 3, "per_class": 20}}), ())
    assert np.bincount(splits.train.labels).tolist() == [20, 20, 20]
    assert set(splits.train.ids) < set(digits.train.ids)
    kept = [i for i, label in zip(digits.test.ids, digits.test.labels, strict=True) if label < 3]
    assert list(splits.test.ids) == kept


def test_named_subset_keeps_the_order_of_the_classes() -> None:
    """Classes named in a subset come in the data set's order, and know their index among all ten."""
    dataset = resolved({"subset": {"classes": ["seven", "two"]}})
    assert [c.name for c in dataset.classes] == ["two", "seven"]
    assert dataset.label_space.startswith("digits:")
    assert class_indices(Head(kind="labels", label_space="digits", num_classes=10), dataset) == (2, 7)
    splits = open_splits(dataset, ())
    _, labels = load_digits()
    at = [int(i.removeprefix("digits/")) for i in splits.val.ids]
    assert np.array_equal(np.array([2, 7])[splits.val.labels], labels[at])


def test_larger_draw_contains_the_smaller() -> None:
    """Draws of one seed are nested, and another seed draws others."""
    ids = [
        set(open_splits(resolved({"subset": {"per_class": n, "seed": seed}}), ()).train.ids)
        for n, seed in ((10, 0), (30, 0), (30, 1))
    ]
    assert ids[0] < ids[1]
    assert ids[1] != ids[2]


def test_other_sizes_are_resized(digits: Splits) -> None:
    """At 16 pixels the same images come enlarged."""
    large = open_splits(resolved({}), (), 16).test
    assert large.images.shape == (450, 1, 16, 16)
    assert large.ids == digits.test.ids
    halves = large.images.reshape(450, 1, 8, 2, 8, 2).mean(axis=(3, 5))
    assert np.abs(halves - digits.test.images).mean() < 12


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"val": {"per_class": 3}}, "fixed val split"),
        ({"subset": {"classes": ["tow", "one"]}}, "did you mean 'two'?"),
        ({"subset": {"classes": 11}}, "2 to 10"),
        ({"subset": {"classes": 1}}, "2 to 10"),
        ({"subset": {"classes": ["two", "two"]}}, "each named once"),
        ({"subset": {"per_clas": 3}}, "did you mean 'per_class'?"),
        ({"trian": "x"}, "unknown field"),
    ],
)
def test_bad_settings_are_refused_where_they_stand(settings: dict[str, object], said: str) -> None:
    """A setting that cannot be is refused in one line that names the place."""
    with pytest.raises(BadInputError) as caught:
        resolved(settings)
    assert str(caught.value).startswith("suite.yaml: datasets[0]: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_more_images_than_there_are_is_refused() -> None:
    """A draw larger than its class is refused by the class's name when it is opened."""
    with pytest.raises(BadInputError, match=r"per_class: 500 .* class"):
        open_splits(resolved({"subset": {"per_class": 500}}), ())
