"""What is trained on is never what is reported, whatever the two are called."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.conftest import CLASSES
from tests.pipeline.layouts.every_layout import write
from tests.pipeline.layouts.pictures import picture, tar_of
from vitkd_bench.pipeline import resolve_dataset
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import BadInputError, ResolvedDataset, WorldError


def resolved(name: str, root: Path, **settings: Any) -> ResolvedDataset:
    """The data set with its settings, its files looked for under one root."""
    return resolve_dataset(DATASETS.get(name), settings, (root,))


@pytest.mark.parametrize("test", ["train/", "./train", "test/../train", "same"])
def test_a_folder_under_another_name_is_refused(test: str, birds: Path) -> None:
    """A slash, a dot, a way round or a link names train's own folder; a domain beside it does not."""
    (birds / "same").symlink_to(birds / "train")
    with pytest.raises(BadInputError, match=r"test: .* is what train names too; carve it instead"):
        resolved("folder", birds, train="train", test=test, val={"per_class": 2})
    assert resolved("folder", birds, train="train", test="test", val={"per_class": 2}).classes


def test_a_shard_of_both_parts_is_refused(tmp_path: Path) -> None:
    """Ranges that overlap share a shard, and so do two names of one."""
    settings = write("webdataset", "numbers", tmp_path).settings
    for test in (settings["train"], "shards/train-{002..002}.tar", "shards/../shards/train-001.tar"):
        with pytest.raises(BadInputError, match=r"test: shard .* is train's too"):
            resolved("webdataset", tmp_path, **{**settings, "test": test})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"test": "train"}, "are the same split"),
        ({"val": None, "published_val": "test"}, "are the same split"),
        ({"val": None}, "either how it is carved from train"),
        ({"published_val": "validation"}, "either how it is carved from train"),
    ],
)
def test_splits_of_an_image_set_are_told_apart(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    """Two parts of one split are refused, and no val or two of them, before a file is opened."""
    settings = {"path": "set", "val": {"per_class": 2}, **changed}
    with pytest.raises(BadInputError, match=said):
        resolved("hf_image_set", tmp_path, **settings)


def test_one_class_is_none(birds: Path) -> None:
    """Folders that hold a single class are refused, with its name."""
    for name in CLASSES[1:]:
        for part in ("train", "test"):
            shutil.rmtree(birds / part / name)
    with pytest.raises(WorldError, match=f"at least two are needed, and there is '{CLASSES[0]}' alone"):
        resolved("folder", birds, train="train", test="test", val={"per_class": 2})


def test_two_images_of_one_key_are_refused(tmp_path: Path) -> None:
    """`a.jpg` and `a.JPG` are one sample's image twice: none of them is dropped."""
    files = {f"{key}.{kind}": picture(key) for key in "ab" for kind in ("jpg", "JPG")}
    labels = {"a.cls": b"0", "b.cls": b"1"}
    (tmp_path / "train.tar").write_bytes(tar_of({**files, **labels}))
    (tmp_path / "test.tar").write_bytes(tar_of({"a.jpg": picture("a"), "b.jpg": picture("b"), **labels}))
    with pytest.raises(WorldError, match=r"train\.tar/a\.jpg: 'a\.JPG' is of the same sample and kind"):
        resolved("webdataset", tmp_path, train="train.tar", test="test.tar", val={"per_class": 1})


def test_a_list_of_images_to_skip_is_known_by_its_content(birds: Path) -> None:
    """It is looked for before anything runs; its name is in no id, another content is another data set."""
    plain = {"train": "train", "test": "test", "val": {"per_class": 2}}
    with pytest.raises(WorldError, match=r"skip: no 'a\.txt'"):
        resolved("folder", birds, **plain, skip="a.txt")
    ids = sorted(f"train/{path.parent.name}/{path.name}" for path in (birds / "train").glob("*/*"))
    (birds / "a.txt").write_text("\n".join(ids[:2]))
    (birds / "b.txt").write_text("\n".join(reversed(ids[:2])))
    (birds / "c.txt").write_text("\n".join(ids[:3]))
    of = {n: json.dumps(resolved("folder", birds, **plain, skip=f"{n}.txt").identity()) for n in "abc"}
    assert of["a"] == of["b"] != of["c"]
    assert json.dumps(resolved("folder", birds, **plain).identity()) not in of.values()
