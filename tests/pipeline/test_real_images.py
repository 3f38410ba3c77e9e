"""Ten classes of Tiny ImageNet, as a suite on real images reads them."""

from pathlib import Path

import numpy as np
import pytest

from vitkd_bench.contracts import class_indices
from vitkd_bench.pipeline import Splits, TrainStream, open_splits, resolve_dataset
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import Augmentation, Head, Recipe

SETTINGS = {
    "train": "tiny_imagenet100/train.tar.xz",
    "test": "tiny_imagenet100/val.tar.xz",
    "classes": "tiny_imagenet100/classes.json",
    "val": {"per_class": 10},
    "subset": {"classes": 10, "per_class": 20},
}


@pytest.fixture(scope="module")
def tiny(real_data: Path) -> Splits:
    """Twenty training images of each of ten classes, enlarged to 112 pixels."""
    return open_splits(resolve_dataset(DATASETS.get("folder"), SETTINGS, (real_data,)), (real_data,), 112)


def test_counts_are_those_asked_for(tiny: Splits) -> None:
    """200 training, 100 val and all 500 test images of ten classes, in colour."""
    assert tiny.train.images.shape == (200, 3, 112, 112)
    for part, per_class in ((tiny.train, 20), (tiny.val, 10), (tiny.test, 50)):
        assert np.bincount(part.labels).tolist() == [per_class] * 10


def test_classes_know_their_place_in_imagenet(tiny: Splits) -> None:
    """The ImageNet indices are those of the class list, so that a teacher's 1000 logits serve."""
    first = tiny.dataset.classes[0]
    assert (first.name, first.indices["imagenet1k"]) == ("goldfish", 1)
    found = class_indices(Head(kind="labels", label_space="imagenet1k", num_classes=1000), tiny.dataset)
    assert found is not None
    assert list(found) == sorted(found)
    assert len(found) == 10


def test_training_images_are_in_no_other_split(tiny: Splits) -> None:
    """Ids are disjoint, and so are the pixels of train and test."""
    ids = [*tiny.train.ids, *tiny.val.ids, *tiny.test.ids]
    assert len(set(ids)) == len(ids) == 800
    images = [{image.tobytes() for image in part.images} for part in (tiny.train, tiny.val, tiny.test)]
    assert not images[0] & images[1]
    assert not images[0] & images[2]
    assert not images[1] & images[2]


def test_split_is_the_same_on_every_machine(tiny: Splits) -> None:
    """Which images are drawn is pinned: it depends on their names and the seeds alone."""
    assert tiny.split_hash == "cc0af8622c81fafb"


def test_views_of_photographs_look_like_them(tiny: Splits) -> None:
    """Flip and crop keep the colours of a photograph."""
    recipe = Recipe(
        epochs=1, batch_size=64, lr=1e-3, augmentation=Augmentation(flip=True, crop_scale=(0.6, 1.0))
    )
    batch = TrainStream(tiny.train, recipe, 0).batch(0)
    originals = tiny.train.images[batch.ids.numpy()] / 255
    difference = batch.pixels.mean(dim=(2, 3)).numpy() - originals.mean(axis=(2, 3))
    assert np.abs(difference).mean() < 0.03
