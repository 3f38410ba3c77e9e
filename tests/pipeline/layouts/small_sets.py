"""Small sets in the official layouts of CIFAR, Tiny ImageNet, Flowers-102 and Pets."""

import io
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import savemat

from tests.pipeline.layouts.pictures import Written, below, named, picture, tar_of, write_files, zip_of
from vitkd_bench.datasets import cifar10, cifar100, pets
from vitkd_bench.datasets._imagenet import classes_marked, wnid_of


def python2_pickle(values: dict[str, Any]) -> bytes:
    """A dict of texts, numbers, lists and uint8 arrays, byte for byte as Python 2 wrote it (protocol 2)."""
    items = b"".join(_python2(key) + _python2(value) for key, value in values.items())
    return b"\x80\x02}(" + items + b"u."


def _python2(value: object) -> bytes:
    if isinstance(value, str):
        return b"U" + bytes([len(value)]) + value.encode()
    if isinstance(value, int):
        return b"K" + bytes([value])
    if isinstance(value, list):
        return b"](" + b"".join(map(_python2, value)) + b"e"
    assert isinstance(value, np.ndarray)
    rows, columns = value.shape
    head = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
    shape = b"M" + struct.pack("<H", rows) + b"M" + struct.pack("<H", columns) + b"\x86"
    kind = (
        b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
    )
    raw = value.tobytes()
    return head + shape + kind + b"T" + struct.pack("<I", len(raw)) + raw + b"tb"


def python3_pickle(values: dict[str, Any]) -> bytes:
    """The same as Python 3 writes it in the same protocol, as some mirrors have it."""
    return pickle.dumps(values, protocol=2)


_CIFAR = {
    "cifar10": (cifar10.NAMES, "cifar-10-batches-py", "batches.meta", "label_names", "labels"),
    "cifar100": (cifar100.NAMES, "cifar-100-python", "meta", "fine_label_names", "fine_labels"),
}


def cifar_files(name: str, dump: Any = python2_pickle) -> tuple[dict[str, bytes], Written]:
    """The files of CIFAR with six images of each class to train on and one to test, and what they hold."""
    names, _, meta, names_field, field = _CIFAR[name]
    batches = {f"data_batch_{i}": 2 for i in range(1, 6)} | {"test_batch": 1}
    if name == "cifar100":
        batches = {"train": 6, "test": 1}
    files = {meta: dump({names_field: list(names), "num_vis": 24})}
    written = Written({"val": {"per_class": 2}}, {"train": {}, "test": {}})
    for batch, count in batches.items():
        labels = [i for i in range(len(names)) for _ in range(count)][::-1]
        pixels = _pixels(batch, len(labels))
        files[batch] = dump({"batch_label": batch, field: labels, "data": pixels})
        part = written.parts["test" if batch.startswith("test") else "train"]
        for row, label in enumerate(labels):
            part[f"{batch}/{row:04d}"] = names[label], pixels[row].tobytes()
    return files, written


def _pixels(name: str, count: int) -> NDArray[np.uint8]:
    drawn = np.random.default_rng(len(name) + ord(name[-1]))
    return drawn.integers(0, 256, (count, 3072), dtype=np.uint8)


def cifar_folder(root: Path, name: str) -> Written:
    """The archive unpacked beside other data sets."""
    files, written = cifar_files(name)
    write_files(root / _CIFAR[name][1], files)
    return written


def cifar_archive(root: Path, name: str) -> Written:
    """The archive as downloaded."""
    files, written = cifar_files(name, python3_pickle)
    folder = _CIFAR[name][1]
    packed = "cifar-10-python.tar.gz" if name == "cifar10" else "cifar-100-python.tar.gz"
    (root / packed).write_bytes(tar_of(below(folder, files), "w:gz"))
    return written


def tiny_files() -> tuple[dict[str, bytes], Written]:
    """Files of Tiny ImageNet for six classes."""
    every = [wnid_of(info) for info in classes_marked("t")]
    kept = every[::40] + every[-1:]
    train = named(kept, 5, "train/{key}/images/{key}_{k}.JPEG")
    val = named(kept, 2, "val/images/val_{n}.JPEG")
    files = {name: data for name, (_, data) in (train | val).items()}
    lines = [f"{name.rpartition('/')[2]}\t{key}\t0\t32\t44\t62\n" for name, (key, _) in val.items()]
    files["val/val_annotations.txt"] = "".join(lines).encode()
    files["wnids.txt"] = "".join(f"{wnid}\n" for wnid in sorted(kept, reverse=True)).encode()
    files["words.txt"] = b"n00001740\tentity\n"
    files["test/images/test_0.JPEG"] = picture("unlabelled")
    for wnid in kept:
        files[f"train/{wnid}/{wnid}_boxes.txt"] = f"{wnid}_0.JPEG\t0\t10\t63\t58\n".encode()
    settings = {"subset": {"classes": kept}, "val": {"per_class": 2}}
    return files, Written(settings, {"train": train, "test": val})


def tiny_folder(root: Path) -> Written:
    """The zip unpacked."""
    files, written = tiny_files()
    write_files(root / "tiny-imagenet-200", files)
    return written


def tiny_zip(root: Path) -> Written:
    """The zip as downloaded."""
    files, written = tiny_files()
    (root / "tiny-imagenet-200.zip").write_bytes(zip_of(below("tiny-imagenet-200", files)))
    return written


def flowers_files() -> tuple[dict[str, bytes], Written]:
    """Files of Flowers-102: four images of each of six classes, one to train on, one val, two to test."""
    names = ["pink primrose", "hard-leaved pocket orchid", "gazania", "azalea", "blanket flower"]
    names.append("blackberry lily")
    labels = [name for name in (1, 2, 71, 72, 100, 102) for _ in range(4)][::-1]
    images = {f"image_{i:05d}.jpg": picture(f"flower {i}") for i in range(1, len(labels) + 1)}
    splits = {"trnid": [], "valid": [], "tstid": []}  # type: dict[str, list[int]]
    parts: dict[str, dict[str, tuple[str, bytes]]] = {"train": {}, "val": {}, "test": {}}
    key = dict(zip((1, 2, 71, 72, 100, 102), names, strict=True))
    for i, label in enumerate(labels, 1):
        field, part = [("trnid", "train"), ("valid", "val"), ("tstid", "test"), ("tstid", "test")][i % 4]
        splits[field].append(i)
        name = f"image_{i:05d}.jpg"
        parts[part][f"jpg/{name}"] = key[label], images[name]
    files = below("jpg", images)
    files["imagelabels.mat"] = _mat(labels=np.array([labels], dtype=np.uint8))
    files["setid.mat"] = _mat(**{f: np.array([ids[::-1]], dtype=np.uint16) for f, ids in splits.items()})
    return files, Written({"subset": {"classes": names}}, parts)


def _mat(**arrays: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, arrays, do_compression=True)
    return buffer.getvalue()


def flowers_folder(root: Path) -> Written:
    """The images unpacked."""
    files, written = flowers_files()
    write_files(root / "flowers102", files)
    return written


def flowers_archive(root: Path) -> Written:
    """The three files as downloaded."""
    files, written = flowers_files()
    images = {name: data for name, data in files.items() if name.startswith("jpg/")}
    rest = {name: data for name, data in files.items() if name not in images}
    write_files(root / "flowers-102", rest | {"102flowers.tgz": tar_of(images, "w:gz")})
    return written


def pets_files() -> tuple[dict[str, bytes], Written]:
    """Files of Pets for five breeds; lists as published, with comments, boxes and masks beside."""
    breeds = ["Abyssinian", "american_bulldog", "Maine_Coon", "saint_bernard", "yorkshire_terrier"]
    number = {name.replace(" ", "_"): i for i, name in enumerate(pets.NAMES, 1)}
    files: dict[str, bytes] = {}
    parts: dict[str, dict[str, tuple[str, bytes]]] = {"train": {}, "test": {}}
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for breed in breeds:
        for k in range(7):
            part = "test" if k >= 5 else "train"
            name = f"{breed}_{k + 1}"
            files[f"images/{name}.jpg"] = picture(name)
            parts[part][f"images/{name}.jpg"] = breed, files[f"images/{name}.jpg"]
            lists[part].append(f"{name} {number[breed]} {1 if breed[0].isupper() else 2} 1\n")
    files["images/Abyssinian_100.mat"] = b"three of these are among the images"
    files["annotations/trainval.txt"] = "".join(lists["train"]).encode()
    files["annotations/test.txt"] = "".join(lists["test"][::-1]).encode()
    files["annotations/list.txt"] = b"#Image CLASS-ID SPECIES BREED ID\n"
    files["annotations/trimaps/._Abyssinian_1.png"] = b"left by a file browser"
    named_breeds = [breed.replace("_", " ") for breed in breeds]
    return files, Written({"subset": {"classes": named_breeds}, "val": {"per_class": 2}}, parts)


def pets_folder(root: Path) -> Written:
    """Both archives unpacked."""
    files, written = pets_files()
    write_files(root / "oxford-iiit-pet", files)
    return written


def pets_archives(root: Path) -> Written:
    """Both archives as downloaded."""
    files, written = pets_files()
    packed = {
        f"{top}.tar.gz": tar_of({n: data for n, data in files.items() if n.startswith(f"{top}/")}, "w:gz")
        for top in ("images", "annotations")
    }
    write_files(root / "pets", packed)
    return written
