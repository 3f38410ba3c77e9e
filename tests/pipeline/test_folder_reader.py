"""The folder reader: classes, splits and refusals."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vitkd_bench.contracts import class_indices
from vitkd_bench.pipeline import Splits, open_splits, resolve_dataset
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import BadInputError, Head, ResolvedDataset, VitkdError, WorldError

BASE = {"train": "train", "test": "test", "val": {"per_class": 3}}


def resolved(root: Path, **settings: object) -> ResolvedDataset:
    """The folder data set under `BASE` and further settings; None takes one away."""
    given = {k: v for k, v in {**BASE, **settings}.items() if v is not None}
    return resolve_dataset(DATASETS.get("folder"), given, (root,), "suite.yaml:3")


def opened(root: Path, image_size: int | None = 8, **settings: object) -> Splits:
    """The same, decoded."""
    return open_splits(resolved(root, **settings), (root,), image_size)


def classes_file(root: Path, rows: object) -> str:
    """Write a list of classes; give its name."""
    (root / "classes.json").write_text(json.dumps(rows))
    return "classes.json"


def test_splits_are_stratified_and_disjoint(birds: Path) -> None:
    """Val has so many images of each class, all from train; nothing is lost and nothing stands twice."""
    splits = opened(birds)
    assert np.bincount(splits.train.labels).tolist() == [9, 9, 9]
    assert np.bincount(splits.val.labels).tolist() == [3, 3, 3]
    assert np.bincount(splits.test.labels).tolist() == [4, 4, 4]
    names = {f"train/{c}/{i}.png" for c in ("crane", "drake", "heron") for i in range(12)}
    assert set(splits.train.ids) | set(splits.val.ids) == names
    assert not set(splits.train.ids) & set(splits.val.ids)
    assert splits.test.ids[0] == "test/crane/0.png"


def test_labels_follow_the_folders(birds: Path) -> None:
    """Each image has the label of the folder that it lies in."""
    splits = opened(birds)
    names = [c.name for c in splits.dataset.classes]
    for part in (splits.train, splits.val, splits.test):
        assert [names[label] for label in part.labels] == [i.split("/")[1] for i in part.ids]


def test_folder_and_archive_give_the_same(birds: Path, pack: Callable[..., Path]) -> None:
    """Packed and unpacked, the pixels, labels, ids and so the split hash are equal."""
    pack(birds / "train", birds / "train.tar.xz", "w:xz")
    pack(birds / "test", birds / "test.tar", "w")
    loose, packed = opened(birds), opened(birds, train="train.tar.xz", test="test.tar")
    assert loose.split_hash == packed.split_hash
    for name in ("train", "val", "test"):
        assert np.array_equal(getattr(loose, name).images, getattr(packed, name).images)


def test_image_size_is_the_native_one_where_all_agree(birds: Path) -> None:
    """Without an image size images stay as they are; if they differ, that is refused with the remedy."""
    assert opened(birds, None).train.images.shape == (27, 3, 10, 12)
    assert opened(birds, 7).train.images.shape == (27, 3, 7, 7)
    crooked = birds / "test" / "heron" / "3.png"
    Image.new("RGB", (5, 5)).save(crooked)
    with pytest.raises(BadInputError, match=r"differ in size .*heron/3\.png.* set image_size"):
        opened(birds, None, val={"per_class": 2})
    for path in (birds / "test").rglob("*.png"):
        Image.new("RGB", (5, 5)).save(path)
    with pytest.raises(WorldError, match=r"test: images \(3, 5, 5\) uint8, train's are \(3, 10, 12\)"):
        opened(birds, None, val={"per_class": 4})


def test_val_stays_when_less_of_train_is_drawn(birds: Path) -> None:
    """A smaller draw of training images leaves val as it was, and is part of the larger one."""
    whole, part, less = (
        opened(birds),
        opened(birds, subset={"per_class": 5}),
        opened(birds, subset={"per_class": 2}),
    )
    assert whole.val.ids == part.val.ids
    assert set(less.train.ids) < set(part.train.ids) < set(whole.train.ids)
    assert np.bincount(part.train.labels).tolist() == [5, 5, 5]


def test_seeds_of_val_and_subset_move_them(birds: Path) -> None:
    """Another seed holds out, or draws, other images."""
    assert opened(birds).val.ids != opened(birds, val={"per_class": 3, "seed": 1}).val.ids
    draws = [opened(birds, subset={"per_class": 4, "seed": seed}).train.ids for seed in (0, 1)]
    assert draws[0] != draws[1]


def test_classes_are_mapped_by_wnid_and_ordered_by_label(birds: Path) -> None:
    """Labels come from the file, folders by wnid, and every `<space>_index` is kept."""
    rows = [
        {"label": 2, "wnid": "crane", "name": "a machine", "imagenet1k_index": 517, "width": 9},
        {"label": 0, "wnid": "heron", "name": "grey heron", "imagenet1k_index": 131, "cub_index": 4},
        {"label": 1, "name": "drake", "imagenet1k_index": 97},
    ]
    splits = opened(birds, classes=classes_file(birds, {"classes": rows}))
    assert [c.name for c in splits.dataset.classes] == ["grey heron", "drake", "a machine"]
    assert splits.dataset.classes[0].indices == {"imagenet1k": 131, "cub": 4}
    head = Head(kind="labels", label_space="imagenet1k", num_classes=1000)
    assert class_indices(head, splits.dataset) == (131, 97, 517)
    folder = ["heron", "drake", "crane"]
    assert [folder[label] for label in splits.test.labels] == [i.split("/")[1] for i in splits.test.ids]


def test_classes_may_be_plain_names(birds: Path) -> None:
    """A list of names gives the order, as in the class list of CIFAR-10."""
    dataset = resolved(birds, classes=classes_file(birds, ["heron", "crane", "drake"]))
    assert [c.name for c in dataset.classes] == ["heron", "crane", "drake"]


def test_numbered_folders_are_sorted_by_value(tmp_path: Path, archive_of: Callable[..., Path]) -> None:
    """Folder 10 is class 3 of 0, 1, 2, 10, 100, as text would not have it (ImageNet-V2)."""
    names = ["100", "10", "2", "0", "1"]
    archive_of(*(f"{n}/{i}.png" for n in names for i in range(2)), name="train.tar")
    archive_of(*(f"{n}/9.png" for n in names), name="test.tar")
    splits = opened(tmp_path, train="train.tar", test="test.tar", val={"per_class": 1})
    assert [c.name for c in splits.dataset.classes] == ["0", "1", "2", "10", "100"]
    assert splits.test.ids[3] == "test/10/9.png"


def test_label_space_is_that_of_the_classes(birds: Path) -> None:
    """Equal classes share a label space wherever they come from; other classes, or fewer, have another."""
    plain = resolved(birds)
    listed = resolved(birds, classes=classes_file(birds, ["crane", "drake", "heron"]))
    assert plain.label_space == listed.label_space
    assert plain.label_space.startswith("folder:")
    assert (
        resolved(birds, classes=classes_file(birds, ["drake", "crane", "heron"])).label_space
        != plain.label_space
    )
    assert resolved(birds, label_space="birds").label_space == "birds"
    some = resolved(birds, subset={"classes": ["heron", "crane"]})
    assert some.label_space not in {plain.label_space, "birds"}
    head = Head(kind="labels", label_space=plain.label_space, num_classes=3)
    assert class_indices(head, some) == (0, 2)


def test_subset_of_classes_reads_only_them(birds: Path) -> None:
    """With two classes, the third is not read: a broken file there is no matter."""
    (birds / "train" / "drake" / "0.png").write_bytes(b"broken")
    splits = opened(birds, subset={"classes": ["heron", "crane"]})
    assert {i.split("/")[1] for i in splits.train.ids} == {"crane", "heron"}
    assert np.bincount(splits.test.labels).tolist() == [4, 4]


def test_settings_stand_in_the_data_set_as_written(birds: Path) -> None:
    """File names are kept as the suite wrote them, so that the run id is the same on every machine."""
    dataset = resolved(birds)
    assert dataset.settings == {"train": "train", "test": "test", "val": {"per_class": 3}}
    assert str(birds) not in dataset.model_dump_json()
    assert ResolvedDataset.model_validate_json(dataset.model_dump_json()) == dataset


def remove(path: str) -> Callable[[Path], None]:
    """A change that empties a class."""

    def change(root: Path) -> None:
        for image in (root / path).iterdir():
            image.unlink()

    return change


def rename(old: str, new: str) -> Callable[[Path], None]:
    """A change that moves a folder."""

    def change(root: Path) -> None:
        (root / old).rename(root / new)

    return change


def stray(path: str) -> Callable[[Path], None]:
    """A change that leaves a file where no image belongs."""

    def change(root: Path) -> None:
        (root / path).write_text("x")

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (remove("train/drake"), "train: class 'drake' has no image: its folder or list is missing or empty"),
        (remove("test/drake"), "test: class 1 (drake) has no image"),
        (rename("test/drake", "test/duck"), "folder 'duck' is none of the 3 classes"),
        (
            rename("train/drake", "train/drakes"),
            "folder 'drakes' is none of the 3 classes; did you mean 'drake'?",
        ),
        (stray("train/README"), "'README' is not class/file"),
    ],
)
def test_classes_and_folders_have_to_agree(birds: Path, change: Callable[[Path], None], said: str) -> None:
    """A class without images, a folder that is no class and a stray file are refused by name."""
    listed = classes_file(birds, ["crane", "drake", "heron"])
    change(birds)
    with pytest.raises(WorldError) as caught:
        opened(birds, classes=listed)
    assert said in str(caught.value)


def test_an_empty_folder_is_not_a_class_fewer(birds: Path) -> None:
    """Without a list of classes the folders are the classes: an empty one is named, in train and in test."""
    for part in ("train", "test"):
        (birds / part / "owl").mkdir()
    with pytest.raises(WorldError, match="train: class 'owl' has no image"):
        opened(birds)


@pytest.mark.parametrize("part", ["train/heron/5.png", "test/crane/1.png"])
def test_broken_image_is_named_with_its_path(birds: Path, part: str) -> None:
    """One image that cannot be decoded ends the reading by its name."""
    data = (birds / part).read_bytes()
    (birds / part).write_bytes(data[: len(data) // 2])
    with pytest.raises(WorldError, match=part):
        opened(birds)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("{", "cannot be read as JSON"),
        ({"clases": []}, "at least two classes"),
        (["crane"], "at least two classes"),
        (["crane", {"nam": "drake"}], "class 1: 'name' is needed"),
        (["crane", "drake", "crane"], "two classes have the folder 'crane'"),
        ([{"name": "crane", "label": 0}, {"name": "drake", "label": 0}], "each of 0 to 1 once"),
        ([{"name": "crane", "label": 1}, {"name": "drake", "label": 2}], "each of 0 to 1 once"),
        ([{"name": "crane", "label": 0}, {"name": "drake"}], "each of 0 to 1 once"),
        ([{"name": "crane", "x_index": "7"}, {"name": "drake"}], "x_index: a number from 0 on, got '7'"),
        (
            [{"name": "crane", "x_index": [1, 2]}, {"name": "drake"}],
            "x_index: a number from 0 on, got [1, 2]",
        ),
        ([{"name": "crane", "wnid": 7}, {"name": "drake"}], "wnid: text is needed"),
    ],
)
def test_bad_list_of_classes_is_refused(birds: Path, rows: object, said: str) -> None:
    """What is wrong with a list of classes is said with the file and the class."""
    (birds / "classes.json").write_text(rows if isinstance(rows, str) else json.dumps(rows))
    with pytest.raises(VitkdError) as caught:
        resolved(birds, classes="classes.json")
    assert said in str(caught.value)
    assert "classes.json" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "kind", "said"),
    [
        ({"train": None}, BadInputError, "suite.yaml:3: train: this field is required"),
        ({"val": None}, BadInputError, "suite.yaml:3: val: this field is required"),
        (
            {"val": {"per_class": 0}},
            BadInputError,
            "suite.yaml:3: val.per_class: Input should be greater than 0",
        ),
        ({"tset": "x"}, BadInputError, "suite.yaml:3: tset: unknown field; did you mean 'test'?"),
        ({"train": "trian.tar"}, WorldError, "data set 'folder': train: no 'trian.tar' in "),
        ({"test": "nowhere"}, WorldError, "VITKD_DATA"),
        ({"classes": "nowhere.json"}, WorldError, "classes: no 'nowhere.json' in "),
        (
            {"subset": {"classes": ["hern", "crane"]}},
            BadInputError,
            "unknown class 'hern'; did you mean 'heron'?",
        ),
        (
            {"subset": {"classes": 9}},
            BadInputError,
            "suite.yaml:3: subset.classes: 9 asked for; 2 to 3 can be had",
        ),
    ],
)
def test_bad_settings_are_refused(
    birds: Path, settings: dict[str, object], kind: type[VitkdError], said: str
) -> None:
    """What cannot be is refused before an image is read, with the field and what would work."""
    with pytest.raises(kind) as caught:
        resolved(birds, **settings)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"val": {"per_class": 12}}, "leaves nothing to train on: class 'crane' has 12"),
        ({"subset": {"per_class": 10}}, "class 'crane' has 9 training images"),
    ],
)
def test_more_images_than_there_are_is_refused(birds: Path, settings: dict[str, Any], said: str) -> None:
    """Val or a subset larger than a class is refused by the class's name."""
    with pytest.raises(BadInputError, match=said):
        opened(birds, **settings)


def test_whose_pictures_they_are_changes_no_id(birds: Path) -> None:
    """`pictures_of` is told to the board and stands in no identity; without it they are the folder's own."""
    named, plain = resolved(birds, pictures_of=["tiny_imagenet"]), resolved(birds)
    assert (named.pictures, plain.pictures) == (("tiny_imagenet",), ("folder",))
    assert named.identity() == plain.identity()
