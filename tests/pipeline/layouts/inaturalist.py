"""Small sets in the official layouts of iNaturalist, and annotated images of one's own."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.pipeline.layouts.pictures import Samples, Written, below, named, tar_of, write_files, zip_of

IDS = (3, 0, 11, 7, 2, 5)
"""Category ids in the order of the file, which is neither theirs nor that of the names."""

NAMES = {0: "UYRGAX", 2: "CXIRQX", 3: "ZWQFRS", 5: "ABUSUX", 7: "BFEEDC", 11: "AHAQWZ"}


def annotations(images: Mapping[str, tuple[str, bytes]], first: int = 0) -> dict[str, Any]:
    """A competition's annotations of images `{file name: (category id, bytes)}`."""
    rows = list(images.items())
    return {
        "info": {"year": 2019, "version": "1.0", "description": "", "contributor": "", "url": ""},
        "images": [
            {
                "license": 3,
                "file_name": name,
                "rights_holder": "R. Holder",
                "height": 10,
                "width": 12,
                "id": first + i,
            }
            for i, (name, _) in enumerate(rows)
        ],
        "licenses": [{"id": 3, "name": "Attribution-NonCommercial License", "url": "http://x"}],
        "annotations": [
            {"id": first + i, "image_id": first + i, "category_id": int(key)}
            for i, (_, (key, _)) in enumerate(rows)
        ],
        "categories": [{"id": i, "name": NAMES[i], "kingdom": "QWERTY", "genus": "ASDFGH"} for i in IDS],
    }


def drawn(train: str, test: str) -> dict[str, Samples]:
    """Images of the six categories, below the folders that the official names begin with."""
    keys = [str(i) for i in IDS]
    return {
        "train": named(keys, 6, train + "/Plants/{key}/{n:04d}.jpg"),
        "test": named(keys, 2, test + "/Plants/{key}/{n:04d}f.jpg"),
    }


def yearly_folder(root: Path, year: str, folder: str) -> Written:
    """The images unpacked, the annotations beside them."""
    parts = drawn(folder, folder)
    home = root / f"inaturalist{year}"
    for samples in parts.values():
        write_files(home, {name: data for name, (_, data) in samples.items()})
    write_files(home, {f"{part}{year}.json": text for part, text in _json(parts).items()})
    return Written({"val": {"share": 0.3}}, parts)


def yearly_archive(root: Path, year: str, folder: str) -> Written:
    """All files as downloaded: 2017 with both annotations in one zip, later ones packed one by one."""
    parts = drawn(folder, folder)
    every = {name: data for samples in parts.values() for name, (_, data) in samples.items()}
    files = {f"{folder}.tar.gz": tar_of(every, "w:gz")}
    texts = {f"{part}{year}.json": text for part, text in _json(parts).items()}
    if year == "2017":
        files["train_val2017.zip"] = zip_of(texts)
    else:
        files |= {f"{name}.tar.gz": tar_of({name: text}, "w:gz") for name, text in texts.items()}
    write_files(root / f"inat{year}", files)
    return Written({"val": {"share": 0.3}}, parts)


def mini_folder(root: Path) -> Written:
    """2021 mini: images of train and val in folders of their own."""
    parts = drawn("train_mini", "val")
    home = root / "inaturalist2021_mini"
    for samples in parts.values():
        write_files(home, {name: data for name, (_, data) in samples.items()})
    texts = _json(parts)
    write_files(home, {"train_mini.json": texts["train"], "val.json": texts["val"]})
    return Written({"val": {"share": 0.3}}, parts)


def mini_archives(root: Path) -> Written:
    """2021 mini: all files as downloaded."""
    parts = drawn("train_mini", "val")
    texts = _json(parts)
    names = {"train": "train_mini", "test": "val"}
    files = {
        f"{names[part]}.tar.gz": tar_of({n: data for n, (_, data) in samples.items()}, "w:gz")
        for part, samples in parts.items()
    }
    packed = {"train_mini.json": texts["train"], "val.json": texts["val"]}
    files |= {f"{name}.tar.gz": tar_of({name: text}, "w:gz") for name, text in packed.items()}
    write_files(root / "inaturalist2021_mini", files)
    return Written({"val": {"share": 0.3}}, parts)


def annotated_folder(root: Path) -> Written:
    """Images and annotations of one's own."""
    return _annotated(root, "images")


def annotated_archive(root: Path) -> Written:
    """The same, the images in an archive."""
    return _annotated(root, "images.tar.xz")


def annotated_apart(root: Path) -> Written:
    """Images of test in a folder of their own, under the names that those of train have too."""
    keys = [str(i) for i in IDS]
    whole = {part: named(keys, count, part + "/{key}_{n}.jpg") for part, count in (("train", 6), ("test", 2))}
    parts = {
        part: {name.removeprefix(f"{part}/"): sample for name, sample in samples.items()}
        for part, samples in whole.items()
    }
    for part, samples in parts.items():
        write_files(root, below(f"{part}_images", {name: data for name, (_, data) in samples.items()}))
    texts = _json(parts)
    write_files(root, {"train.json": texts["train"], "test.json": texts["val"]})
    folders = {"images": "train_images", "test_images": "test_images"}
    return Written({**folders, "train": "train.json", "test": "test.json", "val": {"per_class": 2}}, whole)


def _annotated(root: Path, images: str) -> Written:
    parts = drawn("all", "all")
    texts = _json(parts)
    every = {name: data for samples in parts.values() for name, (_, data) in samples.items()}
    extra = every | {"all/unlabelled.jpg": b"left alone"}
    if images.endswith(".tar.xz"):
        write_files(root, {images: tar_of(extra, "w:xz")})
    else:
        write_files(root, below(images, extra))
    write_files(root, {"train.json": texts["train"], "test.json": texts["val"]})
    settings = {"images": images, "train": "train.json", "test": "test.json", "val": {"per_class": 2}}
    return Written(settings, parts)


def _json(parts: Mapping[str, Samples]) -> dict[str, bytes]:
    """The annotations of train, and of test under the name val, as the competitions call it."""
    train = annotations(parts["train"])
    test = annotations(parts["test"], first=len(parts["train"]))
    return {"train": json.dumps(train).encode(), "val": json.dumps(test).encode()}
