"""What every registered data set has to hold, ours or a stranger's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vitkd_bench.datasets.folder import FolderSettings
from vitkd_bench.measures import classification
from vitkd_bench.pipeline import Splits, TrainStream, eval_batches, open_splits, resolve_dataset
from vitkd_bench.pipeline.readers import reader_of
from vitkd_bench.registry import DATASETS, DatasetEntry
from vitkd_bench.spec import Augmentation, Recipe

CLASSES = [f"class {i}" for i in range(7)]


@pytest.fixture(scope="module", params=DATASETS.names())
def entry(request: pytest.FixtureRequest) -> DatasetEntry:
    """One registered data set."""
    return DATASETS.get(request.param)


def written(root: Path) -> dict[str, Any]:
    """Write a small folder of images; give the settings that name it."""
    drawn = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 3)):
        for i, name in enumerate(CLASSES):
            (root / split / name).mkdir(parents=True)
            for k in range(count + i % 2):  # classes of different size
                pixels = drawn.integers(0, 256, (10, 10, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{k}.png")
    return {"train": "train", "test": "test", "val": {"per_class": 2}}


@pytest.fixture(scope="module")
def splits(entry: DatasetEntry, tmp_path_factory: pytest.TempPathFactory) -> Splits:
    """The data set, opened: with its own files, or, where it has none, with some that are written here."""
    root = tmp_path_factory.mktemp("images")
    settings = written(root) if issubclass(entry.settings, FolderSettings) else {}
    return open_splits(resolve_dataset(entry, settings, (root,)), (root,), entry.facts.image_size or 12)


def test_facts_are_stated(entry: DatasetEntry) -> None:
    """Title, source, licence, split rule and reader are there; pixel statistics fit the channels."""
    facts = entry.facts
    assert all((facts.title, facts.source, facts.licence, facts.split_rule))
    assert len(facts.pixels.mean) == len(facts.pixels.std) == facts.channels
    assert min(facts.pixels.std) > 0
    assert callable(reader_of(facts).open)


def test_splits_hold_the_contract(splits: Splits) -> None:
    """Images, labels and ids fit each other and the facts; every class is in every split; ids are unique."""
    dataset = splits.dataset
    ids: list[str] = []
    for name in ("train", "val", "test"):
        part = splits.split(name)
        assert part.images.dtype == np.uint8
        assert part.images.shape[:2] == (len(part), dataset.channels)
        assert set(part.labels.tolist()) == set(range(len(dataset.classes)))
        ids += part.ids
    assert len(set(ids)) == len(ids)


def test_constant_predictor_scores_its_share(splits: Splits) -> None:
    """Saying one class always is right on exactly that class's samples, each of the classes in turn."""
    labels = torch.from_numpy(splits.test.labels.copy())
    classes = len(splits.dataset.classes)
    for c in range(classes):
        scores = torch.nn.functional.one_hot(torch.full_like(labels, c), classes).float()
        found = classification(scores, labels)
        assert found["top1"] == int((labels == c).sum()) / len(labels)
        assert found["mean_per_class"] == pytest.approx(1 / classes)
        assert found["n"] == len(splits.test)


def test_oracle_scores_one(splits: Splits) -> None:
    """Who knows every label, batch by batch as evaluation gives them, scores one and no error."""
    labels = torch.cat([batch.labels for batch in eval_batches(splits.test, 7)])
    classes = len(splits.dataset.classes)
    found = classification(torch.nn.functional.one_hot(labels, classes) * 1000.0, labels)
    assert (found["top1"], found["mean_per_class"], found["nll"], found["ece"]) == (1, 1, 0, 0)
    assert found.get("top5", 1) == 1
    assert np.array_equal(labels.numpy(), splits.test.labels)


def test_every_shift_pairs_with_test(splits: Splits) -> None:
    """Each shift split that the facts name can be made, has test's ids and other pixels."""
    for name in splits.dataset.shifts:
        part = splits.shift(name)
        assert part.ids == splits.test.ids
        assert not np.array_equal(part.images, splits.test.images)


def test_can_be_trained_on(splits: Splits) -> None:
    """A batch of training views has the data set's shape and range."""
    recipe = Recipe(epochs=1, batch_size=16, lr=1e-3, augmentation=Augmentation(shift=1, noise=0.1))
    batch = TrainStream(splits.train, recipe, 0).batch(0)
    assert batch.pixels.shape == (16, *splits.train.images.shape[1:])
    assert 0 <= float(batch.pixels.min()) < float(batch.pixels.max()) <= 1
