"""Mistakes that others made with these data sets, each with its source, and that ours does not make."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest

from tests.pipeline.layouts import imagenet, inaturalist
from tests.pipeline.layouts.every_layout import FORMS, write
from tests.pipeline.test_official_layouts import read
from vitkd_bench.datasets._imagenet import CLASSES, WNIDS, classes_marked, wnid_of
from vitkd_bench.pipeline import open_splits, resolve_dataset
from vitkd_bench.pipeline.annotations import parse_annotations
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import WorldError, content_hash

YEAR = ("2018", "train_val2018")
LISTS = {"a": "8887d49f740ddb4c", "r": "dd62e9413ab14ffe"}
NAMES = "b6d4c93f68a4f863"


@pytest.mark.parametrize("form", ["folder", "archive"])
def test_numbered_folders_are_numbers(form: str, tmp_path: Path) -> None:
    """Folder 100 of ImageNet-V2 is class 100 and not class 2 (ImageNetV2#10, vision#714)."""
    written = write("imagenet_v2", form, tmp_path)
    known, parts = read("imagenet_v2", tmp_path, written)
    test = parts["test"]
    assert [str(label) for label in test.labels] == [id_.partition("/")[0] for id_ in test.ids]
    assert sorted(set(test.labels.tolist())) == [0, 1, 2, 10, 100, 999]
    assert [known[i].info.indices["imagenet1k"] for i in (2, 10, 100)] == [2, 10, 100]


def test_lists_of_200_classes_are_the_authors() -> None:
    """200 each, sorted, not the same; hashes pin them (timm#2456: 0.08 % on ImageNet-A without the list)."""
    lists = {mark: [wnid_of(info) for info in classes_marked(mark)] for mark in "ar"}
    assert all(len(wnids) == 200 and wnids == sorted(wnids) for wnids in lists.values())
    assert len(set(lists["a"]) & set(lists["r"])) == 86
    assert {mark: content_hash(wnids) for mark, wnids in lists.items()} == LISTS


def test_names_of_imagenet_are_told_apart() -> None:
    """1,000 names, each once, two cranes and two maillots among them, in sorted order of 1,000 wnids."""
    assert len({info.spoken.lower() for info in CLASSES}) == 1000
    assert list(WNIDS) == sorted(set(WNIDS))
    names = [CLASSES[i].name for i in (134, 517, 638, 639, 657, 744, 836, 837)]
    assert len(set(names)) == 8
    assert content_hash([[w, info.name] for w, info in zip(WNIDS, CLASSES, strict=True)]) == NAMES


@pytest.mark.parametrize("form", ["folder", "archive"])
def test_public_val_of_inaturalist_is_test(form: str, tmp_path: Path) -> None:
    """Train and test are those of the two official files, disjoint; val is of train (inat_comp#23)."""
    written = write("inaturalist2018", form, tmp_path)
    dataset = resolve_dataset(DATASETS.get("inaturalist2018"), written.settings, (tmp_path,))
    splits = open_splits(dataset, (tmp_path,), 8)
    train, val, test = (set(splits.parts[name].ids) for name in ("train", "val", "test"))
    assert test == set(written.parts["test"])
    assert train | val == set(written.parts["train"])
    assert not train & val
    assert not train & test
    assert val


def test_image_in_both_files_is_refused(tmp_path: Path) -> None:
    """An image that stands in train and in val is named with both files."""
    inaturalist.yearly_folder(tmp_path, *YEAR)
    home = tmp_path / "inaturalist2018"
    train = json.loads((home / "train2018.json").read_text())
    val = json.loads((home / "val2018.json").read_text())
    val["images"][0]["file_name"] = train["images"][0]["file_name"]
    (home / "val2018.json").write_text(json.dumps(val))
    with pytest.raises(WorldError, match=r"val2018\.json: '.*' stands in .*train2018\.json too"):
        resolve_dataset(DATASETS.get("inaturalist2018"), {}, (tmp_path,))


def test_classes_are_in_the_order_of_their_ids(tmp_path: Path) -> None:
    """Not of first appearance, as DeiT has them, nor of names; the hash of the list is part of every run."""
    written = inaturalist.yearly_folder(tmp_path, *YEAR)
    dataset = resolve_dataset(DATASETS.get("inaturalist2018"), written.settings, (tmp_path,))
    by_id = [inaturalist.NAMES[i] for i in sorted(inaturalist.NAMES)]
    assert [info.name for info in dataset.classes] == by_id
    assert by_id not in ([inaturalist.NAMES[i] for i in inaturalist.IDS], sorted(by_id))
    assert dataset.identity()["classes"] == dataset.class_hash


def test_later_published_names_stand_for_hidden_ones(tmp_path: Path) -> None:
    """`names` gives the species; it names other classes, and so another data set, than the hidden ones."""
    written = inaturalist.yearly_folder(tmp_path, *YEAR)
    names = [{"id": i, "name": f"species {i}"} for i in sorted(inaturalist.NAMES)]
    (tmp_path / "inaturalist2018" / "categories.json").write_text(json.dumps(names))
    entry = DATASETS.get("inaturalist2018")
    hidden = resolve_dataset(entry, written.settings, (tmp_path,))
    known = resolve_dataset(entry, {**written.settings, "names": "categories.json"}, (tmp_path,))
    assert [info.name for info in known.classes] == [f"species {i}" for i in sorted(inaturalist.NAMES)]
    assert known.class_hash != hidden.class_hash


class Shuffled:
    """What `os.scandir` gives, in another order."""

    def __init__(self, entries: list[os.DirEntry[str]]) -> None:
        self.entries = entries

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> os.DirEntry[str]:
        if not self.entries:
            raise StopIteration
        return self.entries.pop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""


@pytest.fixture
def shuffled_listing(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A file system that lists folders in another order each time."""
    plain = os.scandir

    def shuffle(seed: int) -> None:
        drawn = random.Random(seed)

        def listed(path: Any = ".") -> Shuffled:
            with plain(path) as entries:
                found = list(entries)
            drawn.shuffle(found)
            return Shuffled(found)

        monkeypatch.setattr(os, "scandir", listed)

    return shuffle


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_order_of_a_listing_moves_nothing(
    name: str, form: str, tmp_path: Path, shuffled_listing: Callable[[int], None]
) -> None:
    """A disk that lists folders otherwise gives the same ids and labels (torchvision: not)."""
    written = write(name, form, tmp_path)
    _, plain = read(name, tmp_path, written)
    for seed in (1, 2):
        shuffled_listing(seed)
        _, parts = read(name, tmp_path, written)
        for part, found in parts.items():
            assert found.ids == plain[part].ids
            assert found.labels.tolist() == plain[part].labels.tolist()


def test_lost_class_is_named(tmp_path: Path) -> None:
    """A copy of ImageNet that lacks a class is refused by its name, not trained on as 999 classes."""
    written = imagenet.imagenet_folders(tmp_path)
    shutil.rmtree(tmp_path / "imagenet" / "train" / imagenet.KEPT[2])
    dataset = resolve_dataset(DATASETS.get("imagenet1k"), written.settings, (tmp_path,))
    name = CLASSES[WNIDS.index(imagenet.KEPT[2])].name
    with pytest.raises(WorldError, match=f"train: class '{name}' has no image"):
        open_splits(dataset, (tmp_path,), 8)


def test_devkit_numbers_are_not_class_indices(tmp_path: Path) -> None:
    """Numbers 1 to 1000 of the ground truth go through the wnids: taken for indices they would be wrong."""
    written = imagenet.imagenet_tars(tmp_path)
    _, parts = read("imagenet1k", tmp_path, written)
    wanted = [WNIDS.index(written.parts["test"][f"test/{id_}"][0]) for id_ in parts["test"].ids]
    assert parts["test"].labels.tolist() == wanted


def test_two_categories_of_one_name_are_refused() -> None:
    """Names are what a text head reads: two classes of one name are named with their ids."""
    images = {"1.jpg": ("0", b""), "2.jpg": ("2", b"")}
    found = inaturalist.annotations(images)
    found["categories"][0]["name"] = found["categories"][1]["name"]
    with pytest.raises(WorldError, match=r"x: categories 0 and 3 are both named 'UYRGAX'"):
        parse_annotations(json.dumps(found).encode(), "x").classes()
