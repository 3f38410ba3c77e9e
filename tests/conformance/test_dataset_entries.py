"""What every registered data set has to hold, ours or a stranger's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.pipeline.layouts.every_layout import LAYOUTS, write
from vitkd_bench.contracts import Examples
from vitkd_bench.diagnose.dataset_conformance import dataset_conformance
from vitkd_bench.measures import classification
from vitkd_bench.pipeline import Splits, TrainStream, eval_batches, open_splits, resolve_dataset
from vitkd_bench.pipeline.readers import reader_of
from vitkd_bench.registry import DATASETS, DatasetEntry
from vitkd_bench.spec import Augmentation, BadInputError, Recipe, WorldError


@pytest.fixture(scope="module", params=DATASETS.names())
def entry(request: pytest.FixtureRequest) -> DatasetEntry:
    """One registered data set."""
    return DATASETS.get(request.param)


@pytest.fixture(scope="module")
def splits(entry: DatasetEntry, tmp_path_factory: pytest.TempPathFactory) -> Splits:
    """The data set, opened: with files written in its first official layout, or with its own."""
    root = tmp_path_factory.mktemp("images")
    settings: dict[str, Any] = {}
    if entry.name in LAYOUTS:
        settings = write(entry.name, next(iter(LAYOUTS[entry.name])), root).settings
    return open_splits(resolve_dataset(entry, settings, (root,)), (root,), entry.facts.image_size or 12)


def shown(part: Examples) -> np.ndarray:
    """All images of a split, as they are shown."""
    return part.plain(np.arange(len(part))).numpy()


def test_facts_are_stated(entry: DatasetEntry) -> None:
    """Title, source, licence, split rule and reader are there; pixel statistics fit the channels."""
    facts = entry.facts
    assert all((facts.title, facts.source, facts.licence, facts.split_rule))
    assert len(facts.pixels.mean) == len(facts.pixels.std) == facts.channels
    assert min(facts.pixels.std) > 0
    reader = reader_of(facts)
    assert callable(reader.classes)
    assert callable(reader.parts)


def test_settings_are_told(entry: DatasetEntry) -> None:
    """What each setting means is said where it is defined."""
    for name, field in entry.settings.model_fields.items():
        assert field.description, name


def test_facts_fit_each_other(entry: DatasetEntry) -> None:
    """Classes are counted and told apart; parts are those of the role; files say how they may be had."""
    facts = entry.facts
    if facts.classes is not None:
        assert len({info.spoken.lower() for info in facts.classes}) == len(facts.classes)
        assert facts.num_classes in {None, len(facts.classes)}
    assert set(facts.counts) <= ({"test"} if facts.role == "shift" else {"train", "val", "test"})
    assert bool(facts.files) == bool(facts.fetch or facts.manual)
    assert all(place.startswith(("http://", "https://")) for place in facts.fetch)


def test_files_that_are_not_there_are_told(entry: DatasetEntry, tmp_path: Path) -> None:
    """Without its files a data set says in one line what it looked for, where, and how to name the place."""
    if entry.name not in LAYOUTS:
        assert resolve_dataset(entry, {}, ()).classes  # it comes with a package
        return
    (tmp_path / "layout").mkdir()
    written = write(entry.name, next(iter(LAYOUTS[entry.name])), tmp_path / "layout")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(WorldError, match="VITKD_DATA") as caught:
        resolve_dataset(entry, written.settings, (empty,))
    assert entry.name in str(caught.value)
    assert str(empty) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_splits_hold_the_contract(splits: Splits, entry: DatasetEntry) -> None:
    """Images, labels and ids fit each other and the facts; every class is in every split; ids are unique."""
    dataset = splits.dataset
    ids: list[str] = []
    assert set(splits.parts) == ({"test"} if entry.facts.role == "shift" else {"train", "val", "test"})
    for part in splits.parts.values():
        images = shown(part)
        assert images.dtype == np.uint8
        assert images.shape[:2] == (len(part), dataset.channels)
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
        assert not np.array_equal(shown(part), shown(splits.test))


def test_can_be_trained_on(splits: Splits) -> None:
    """A batch of training views has the data set's shape and range."""
    if "train" not in splits.parts:
        with pytest.raises(BadInputError, match="is a shift set and has no train"):
            _ = splits.train
        return
    size = min(16, len(splits.train))
    recipe = Recipe(epochs=1, batch_size=size, lr=1e-3, augmentation=Augmentation(shift=1, noise=0.1))
    batch = TrainStream(splits.train, recipe, 0).batch(0)
    assert batch.pixels.shape == (size, *shown(splits.train).shape[1:])
    assert 0 <= float(batch.pixels.min()) < float(batch.pixels.max()) <= 1


def test_the_kit_finds_nothing(entry: DatasetEntry, tmp_path: Path) -> None:
    """Every check that a stranger's data set has to pass holds of ours, in each form of its files."""
    for form in LAYOUTS.get(entry.name, ["as it comes"]):
        root = tmp_path / form.replace(" ", "_")
        root.mkdir()
        given = write(entry.name, form, root).settings if entry.name in LAYOUTS else {}
        found = dataset_conformance(entry, given, (root,))
        assert {check.name: check.finding for check in found if check.status != "pass"} == {}
