"""Small sets in the official layouts of ImageNet-1k and of the shift sets made for it."""

import io
from pathlib import Path

import numpy as np
from scipy.io import savemat

from tests.pipeline.layouts.pictures import Written, below, named, tar_of, write_files, zip_of
from vitkd_bench.datasets._imagenet import WNIDS, classes_marked, wnid_of

KEPT = WNIDS[3::150]
"""Seven classes, of which a small set has images."""

SUBSET = {"classes": list(KEPT)}
TRUTH_LINES = 60


def imagenet_folders(root: Path) -> Written:
    """`train/<wnid>/` and `val/<wnid>/`, as everybody keeps it."""
    train, val = _images()
    write_files(root / "imagenet", below("train", {n: data for n, (_, data) in train.items()}))
    write_files(root / "imagenet", below("val", {n: data for n, (_, data) in val.items()}))
    return _written(train, val)


def imagenet_tars(root: Path) -> Written:
    """The three files as downloaded: a tar of tars, a flat tar, and the devkit."""
    train, val = _images()
    home = root / "ILSVRC2012"
    inner = {
        f"{wnid}.tar": tar_of({n.partition("/")[2]: data for n, (key, data) in train.items() if key == wnid})
        for wnid in KEPT
    }
    flat = {name.partition("/")[2]: data for name, (_, data) in val.items()}
    write_files(
        home,
        {
            "ILSVRC2012_img_train.tar": tar_of(inner),
            "ILSVRC2012_img_val.tar": tar_of(flat),
            "ILSVRC2012_devkit_t12.tar.gz": devkit({name: key for name, (key, _) in val.items()}),
        },
    )
    return _written(train, val)


def imagenet_flat_val(root: Path) -> Written:
    """The val tar unpacked into one folder, with the devkit unpacked beside it; the root is the set's own."""
    train, val = _images()
    write_files(root, below("train", {n: data for n, (_, data) in train.items()}))
    write_files(root, {f"val/{name.partition('/')[2]}": data for name, (_, data) in val.items()})
    write_files(root, devkit_files({name: key for name, (key, _) in val.items()}))
    return _written(train, val)


def devkit(labels: dict[str, str]) -> bytes:
    """The devkit's archive, with the ground truth of these images."""
    return tar_of(devkit_files(labels), "w:gz")


def devkit_files(labels: dict[str, str]) -> dict[str, bytes]:
    """The two files of the devkit that count, numbers 1 to 1000 in an order that is not that of the wnids."""
    number = {wnid: i for i, wnid in enumerate(np.random.default_rng(0).permutation(WNIDS).tolist(), 1)}
    truth = [1] * TRUTH_LINES
    for name, wnid in labels.items():
        truth[int(name[-13:-5]) - 1] = number[wnid]
    return {
        "ILSVRC2012_devkit_t12/data/meta.mat": meta_mat(number),
        "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt": "".join(
            f"{each}\n" for each in truth
        ).encode(),
        "ILSVRC2012_devkit_t12/readme.txt": b"of the devkit",
    }


def meta_mat(number: dict[str, int]) -> bytes:
    """`meta.mat`: leaves by their numbers, and after them synsets that are no classes."""
    fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    ordered = sorted(number, key=lambda wnid: number[wnid])
    rows = [(float(number[wnid]), wnid, f"words of {wnid}", 0.0) for wnid in ordered]
    rows += [(1001.0, "n00001740", "entity", 2.0), (1002.0, "n00001930", "physical entity", 3.0)]
    buffer = io.BytesIO()
    savemat(buffer, {"synsets": np.array(rows, dtype=fields).reshape(-1, 1)}, do_compression=True)
    return buffer.getvalue()


def _images() -> tuple[dict[str, tuple[str, bytes]], dict[str, tuple[str, bytes]]]:
    train = named(KEPT, 5, "{key}/{key}_{k}0.JPEG")
    val = named(sorted(KEPT, reverse=True), 3, "{key}/ILSVRC2012_val_{n:08d}.JPEG")
    return train, val


def _written(train: dict[str, tuple[str, bytes]], val: dict[str, tuple[str, bytes]]) -> Written:
    parts = {"train": train, "test": val}
    found = {part: {f"{part}/{name}": of for name, of in files.items()} for part, files in parts.items()}
    return Written({"subset": SUBSET, "val": {"per_class": 2}}, found)


def shift_folders(mark: str) -> tuple[dict[str, tuple[str, bytes]], list[str]]:
    """Images of seven classes of a shift set, and the wnids."""
    wnids = [wnid_of(info) for info in classes_marked(mark)]
    kept = wnids[:: len(wnids) // 7][:7]
    return named(kept, 2, "{key}/{k}.jpg"), kept


def wnid_folders(root: Path, mark: str, folder: str) -> Written:
    """Folders by wnid, below the name that the archive unpacks to."""
    images, kept = shift_folders(mark)
    write_files(root / folder, {n: data for n, (_, data) in images.items()})
    return _shift(images, kept)


def wnid_archive(root: Path, mark: str, folder: str, archive: str) -> Written:
    """The archive as downloaded, with a README in it."""
    images, kept = shift_folders(mark)
    files = below(folder, {n: data for n, (_, data) in images.items()} | {"README.txt": b"read me"})
    (root / archive).write_bytes(zip_of(files) if archive.endswith(".zip") else tar_of(files))
    return _shift(images, kept)


V2_FOLDERS = ("0", "1", "2", "10", "100", "999")


def v2_folders(root: Path, archive: str) -> Written:
    """Folders 0 to 999 without leading zeros, of which six are there."""
    images = named(V2_FOLDERS, 2, "{key}/{key}_{k}.jpeg")
    write_files(root / f"{archive}-format-val", {n: data for n, (_, data) in images.items()})
    return _shift(images, list(V2_FOLDERS))


def v2_archive(root: Path, archive: str) -> Written:
    """The archive as downloaded."""
    images = named(V2_FOLDERS, 2, "{key}/{key}_{k}.jpeg")
    files = below(f"{archive}-format-val", {n: data for n, (_, data) in images.items()})
    (root / f"{archive}.tar.gz").write_bytes(tar_of(files, "w:gz"))
    return _shift(images, list(V2_FOLDERS))


def _shift(images: dict[str, tuple[str, bytes]], kept: list[str]) -> Written:
    return Written({"subset": {"classes": kept}}, {"test": {f"test/{n}": of for n, of in images.items()}})
