"""Every real set at hand, read by the data set that its layout is for."""

import io
import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pipeline.layouts import imagenet
from tests.pipeline.layouts.pictures import Written, tar_of, write_files
from tests.pipeline.test_official_layouts import content, read
from vitkd_bench.contracts import Part
from vitkd_bench.datasets._imagenet import CLASSES, WNIDS, classes_marked, wnid_of
from vitkd_bench.datasets.cifar10 import NAMES
from vitkd_bench.pipeline.decode import decode
from vitkd_bench.pipeline.readers.imagenet import _truth
from vitkd_bench.pipeline.tree import open_files


def parts_of(name: str, root: Path, **settings: Any) -> tuple[list[str], dict[str, Part]]:
    """Names of the classes, and the parts."""
    known, parts = read(name, root, Written(settings))
    return [each.info.name for each in known], parts


def counted(part: Part, names: list[str]) -> dict[str, int]:
    """Images by class."""
    return {names[label]: count for label, count in Counter(part.labels.tolist()).items()}


def test_lists_of_classes_are_the_published_ones(real_data: Path) -> None:
    """The 1,000 wnids and both lists of 200 are those of the files, indices and all."""
    folder = real_data / "layouts"
    assert list(WNIDS) == (folder / "imagenet_synsets.txt").read_text().split()
    for mark in "ar":
        marked = classes_marked(mark)
        assert [wnid_of(i) for i in marked] == (folder / f"imagenet_{mark}_synsets.txt").read_text().split()
        indices = [int(i) for i in (folder / f"imagenet_{mark}_indices.txt").read_text().split()]
        assert [info.indices["imagenet1k"] for info in marked] == indices


def test_real_validation_labels_come_through_the_devkit(real_data: Path, tmp_path: Path) -> None:
    """All 50,000 official labels, written as a devkit numbers them, are read as the class indices."""
    lines = (real_data / "layouts" / "ilsvrc2012_val_labels.txt").read_text().split()
    number = {wnid: i for i, wnid in enumerate(np.random.default_rng(5).permutation(WNIDS).tolist(), 1)}
    truth = "".join(f"{number[WNIDS[int(label)]]}\n" for label in lines)
    files = {
        "data/meta.mat": imagenet.meta_mat(number),
        "data/ILSVRC2012_validation_ground_truth.txt": truth.encode(),
    }
    write_files(tmp_path / "ILSVRC2012_devkit_t12", files)
    assert _truth(open_files(tmp_path / "ILSVRC2012_devkit_t12")) == [int(label) for label in lines]


def test_real_images_in_the_layouts_of_imagenet(real_data: Path, tmp_path: Path) -> None:
    """A real image of every class, laid out as ImageNet-V2 and -Sketch come, has its class's index."""
    sample = open_files(real_data / "imagenet_sample" / "images.tar")
    files = {name: sample.read(name) for name in sample.names}
    rows = json.loads((real_data / "imagenet_sample" / "classes.json").read_text())
    index = {row["file"]: row["index"] for row in rows}
    assert len(index) == 1000
    v2 = {f"imagenetv2-top-images-format-val/{index[n]}/{n}": data for n, data in files.items()}
    sketch = {f"sketch/{n.removesuffix('.jpg')}/{n}": data for n, data in files.items()}
    write_files(tmp_path, {"imagenetv2-top-images.tar.gz": tar_of(v2, "w:gz")})
    write_files(tmp_path / "imagenet-sketch", sketch)
    for name in ("imagenet_v2_top", "imagenet_sketch"):
        names, parts = parts_of(name, tmp_path)
        test = parts["test"]
        assert test.labels.tolist() == list(range(1000))
        assert [index[id_.rpartition("/")[2]] for id_ in test.ids] == list(range(1000))
        assert names == [info.name for info in CLASSES]
        for i in (0, 500, 999):
            assert content(test, i) == files[f"{WNIDS[i]}.jpg"]
            assert decode(content(test, i), test.images.place(i), 64).shape == (3, 64, 64)


def test_official_annotations_of_inaturalist_2019(real_data: Path, tmp_path: Path) -> None:
    """The real val2019.json is the test split: 3,030 images of 1,010 categories, three of each."""
    home = tmp_path / "inaturalist2019"
    home.mkdir()
    official = json.loads((real_data / "layouts" / "inat2019_val.json").read_text())
    (home / "val2019.json").write_text(json.dumps(official))
    train = {**official, "images": [], "annotations": []}
    for image, annotation in zip(official["images"], official["annotations"], strict=True):
        name = image["file_name"].replace(".jpg", "t.jpg")
        train["images"].append({**image, "file_name": name})
        train["annotations"].append(annotation)
    (home / "train2019.json").write_text(json.dumps(train))
    names = [row["file_name"] for found in (official, train) for row in found["images"]]
    with tarfile.open(home / "train_val2019.tar", "w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 1
            tar.addfile(info, io.BytesIO(b"x"))
    classes, parts = parts_of("inaturalist2019", tmp_path)
    test = parts["test"]
    assert len(classes) == 1010
    assert set(counted(test, classes).values()) == {3}
    wanted = {row["id"]: row["file_name"] for row in official["images"]}
    label = {wanted[row["image_id"]]: row["category_id"] for row in official["annotations"]}
    assert [label[id_] for id_ in test.ids] == test.labels.tolist()
    assert not set(test.ids) & set(parts["train"].ids)


def test_plankton_is_long_tailed(real_data: Path) -> None:
    """The real long tail has its published counts by class, folders and annotations agree on every label."""
    names, parts = parts_of(
        "annotated",
        real_data,
        images="plankton/images.tar.xz",
        train="plankton/train.json",
        test="plankton/test.json",
        val={"share": 0.1},
    )
    assert {part: len(found) for part, found in parts.items()} == {"train": 24265, "test": 6071}
    assert len(names) == 121
    for part in parts.values():
        assert [id_.partition("/")[0] for id_ in part.ids] == [names[label] for label in part.labels]
    both = Counter(counted(parts["train"], names)) + Counter(counted(parts["test"], names))
    assert (min(both.values()), max(both.values())) == (9, 1979)


@pytest.mark.parametrize("domain", ["photo", "art_painting", "cartoon", "sketch"])
def test_domains_of_pacs(domain: str, real_data: Path) -> None:
    """Each domain is a shift set of its own: 60 images of seven classes, four with places in ImageNet."""
    known, parts = read(
        "shift_folder",
        real_data,
        Written({"test": "shift_pacs/images.tar.xz", "within": domain, "classes": "shift_pacs/classes.json"}),
    )
    names = [each.info.name for each in known]
    assert set(counted(parts["test"], names).values()) == {60}
    placed = [each.info.name for each in known if each.info.places("imagenet1k")]
    assert placed == ["dog", "elephant", "guitar", "horse"]
    assert known[0].info.places("imagenet1k")[:3] == (151, 152, 153)


def test_pacs_is_trained_on_one_domain(real_data: Path) -> None:
    """Train on photo and test on sketch, or on a part of photo that is carved from it, class by class."""
    images = {"train": "shift_pacs/images.tar.xz", "val": {"per_class": 5}}
    across = {"test": "shift_pacs/images.tar.xz", "within": {"train": "photo", "test": "sketch"}}
    names, parts = parts_of("folder", real_data, **images, **across)
    assert {part: len(found) for part, found in parts.items()} == {"train": 420, "test": 420}
    within = {"test": {"share": 0.25}, "within": "photo"}
    names, carved = parts_of("folder", real_data, **images, **within)
    assert set(counted(carved["train"], names).values()) == {45}
    assert set(counted(carved["test"], names).values()) == {15}
    assert set(carved["train"].ids) | set(carved["test"].ids) == set(parts["train"].ids)
    assert not set(carved["train"].ids) & set(carved["test"].ids)


@pytest.mark.parametrize(("part", "each"), [("edges", 10), ("filled-silhouettes", 10), ("cue-conflict", 30)])
def test_shapes_and_textures(part: str, each: int, real_data: Path) -> None:
    """Sixteen classes, each of several ImageNet classes that no other has."""
    folder = "shift_shape_texture"
    settings = {"test": f"{folder}/images.tar.xz", "within": part, "classes": f"{folder}/classes.json"}
    known, parts = read("shift_folder", real_data, Written({**settings, "pool": "mean"}))
    names = [each.info.name for each in known]
    assert set(counted(parts["test"], names).values()) == {each}
    places = [index for each in known for index in each.info.places("imagenet1k")]
    assert len(known) == 16
    assert len(places) == len(set(places))


def test_jpeg_copy_of_cifar(real_data: Path) -> None:
    """The classes of the JPEG copy are those of CIFAR-10, in its order."""
    names, parts = parts_of(
        "folder",
        real_data,
        train="cifar10_jpeg/train.tar.xz",
        test="cifar10_jpeg/test.tar.xz",
        classes="cifar10_jpeg/classes.json",
        val={"per_class": 10},
    )
    assert names == list(NAMES)
    assert set(counted(parts["train"], names).values()) == {1000}
    assert set(counted(parts["test"], names).values()) == {200}


def test_classes_of_tiny_imagenet(real_data: Path) -> None:
    """The real list's positions among 200, wnids and places in ImageNet are those of our list."""
    rows = json.loads((real_data / "tiny_imagenet100" / "classes.json").read_text())
    listed = rows["classes"] if isinstance(rows, dict) else rows
    ours = classes_marked("t")
    for row in listed:
        info = ours[row["tiny_imagenet200_index"]]
        assert (wnid_of(info), info.indices["imagenet1k"]) == (row["wnid"], row["imagenet1k_index"])


def test_real_tiny_imagenet_in_its_official_layout(real_data: Path, tmp_path: Path) -> None:
    """Real images of three classes, put back into the official folders, have the labels of their wnids."""
    wnids = ["n01443537", "n02123045", "n12267677"]
    home = tmp_path / "tiny-imagenet-200"
    lines = []
    for part, archive in (("train", "train"), ("val", "val")):
        files = open_files(real_data / "tiny_imagenet100" / f"{archive}.tar.xz")
        kept = [name for name in files.names if name.partition("/")[0] in wnids]
        for name in kept[:: 1 if part == "val" else 10]:
            wnid, _, base = name.partition("/")
            place = f"train/{wnid}/images/{base}" if part == "train" else f"val/images/{base}"
            write_files(home, {place: files.read(name)})
            if part == "val":
                lines.append(f"{base}\t{wnid}\t0\t0\t63\t63\n")
    (home / "val" / "val_annotations.txt").write_text("".join(lines))
    known, parts = read("tiny_imagenet", tmp_path, Written({"subset": {"classes": wnids}}))
    found = {known[label].key for label in parts["train"].labels}
    assert found == {wnid for wnid in wnids if wnid in {line.split("\t")[1] for line in lines}}
    assert len(parts["test"]) == len(lines)
    of = {line.split("\t")[0]: line.split("\t")[1] for line in lines}
    assert [known[label].key for label in parts["test"].labels] == [
        of[id_.rpartition("/")[2]] for id_ in parts["test"].ids
    ]
