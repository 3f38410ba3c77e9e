"""Files that are missing, cut off, contradictory or hostile: one line with the path, and nothing written."""

import io
import json
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pipeline.layouts import imagenet, own_sets, small_sets
from tests.pipeline.layouts.every_layout import LAYOUTS, write
from tests.pipeline.layouts.pictures import Written, picture, tar_of, zip_of
from tests.pipeline.test_official_layouts import read, snapshot
from vitkd_bench.pipeline import open_splits, resolve_dataset, tree
from vitkd_bench.pipeline.foreign import parse_json
from vitkd_bench.pipeline.nested import open_nested
from vitkd_bench.pipeline.pickles import parse_pickle
from vitkd_bench.pipeline.tree import open_files
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import BadInputError, VitkdError, WorldError

Damage = Callable[[Path], None]


def refused(name: str, form: str, root: Path, damage: Damage) -> str:
    """What is said of a damaged layout; nothing is written while it is read."""
    written = write(name, form, root)
    damage(root)
    before = snapshot(root.parent)
    with pytest.raises(VitkdError) as caught:
        read(name, root, written)
    assert snapshot(root.parent) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def text(path: str, change: Callable[[str], str]) -> Damage:
    """Change a text file."""

    def damage(root: Path) -> None:
        (root / path).write_text(change((root / path).read_text()))

    return damage


def document(path: str, change: Callable[[dict[str, Any]], object]) -> Damage:
    """Change a JSON file."""

    def damage(root: Path) -> None:
        found = json.loads((root / path).read_text())
        change(found)
        (root / path).write_text(json.dumps(found))

    return damage


def replaced(path: str, data: bytes) -> Damage:
    """Put other bytes into a file."""

    def damage(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)

    return damage


def removed(path: str) -> Damage:
    """Take a file away."""
    return lambda root: (root / path).unlink()


def cut(path: str, share: float = 0.5) -> Damage:
    """Cut a file off, as a broken download is."""

    def damage(root: Path) -> None:
        whole = (root / path).read_bytes()
        (root / path).write_bytes(whole[: int(len(whole) * share)])

    return damage


DEEP = b"[" * 200_000
INAT = "inaturalist2019/train2019.json"
TRUTH = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
META = "ILSVRC2012_devkit_t12/data/meta.mat"
TINY = "tiny-imagenet-200/val/val_annotations.txt"
PETS = "oxford-iiit-pet/annotations/test.txt"


@pytest.mark.parametrize(
    ("name", "form", "damage", "said"),
    [
        (
            "imagenet1k",
            "folders",
            replaced("imagenet/train/n99999999/1.JPEG", b""),
            "none of the 1000 classes",
        ),
        ("imagenet1k", "folders", replaced("imagenet/train/1.JPEG", b""), "is not class/file"),
        ("imagenet1k", "tars", cut("ILSVRC2012/ILSVRC2012_img_train.tar"), "ILSVRC2012_img_train.tar"),
        ("imagenet1k", "tars", cut("ILSVRC2012/ILSVRC2012_devkit_t12.tar.gz"), "devkit_t12.tar.gz"),
        ("imagenet1k", "tars", removed("ILSVRC2012/ILSVRC2012_devkit_t12.tar.gz"), "ILSVRC2012_devkit_t12"),
        ("imagenet1k", "tars", removed("ILSVRC2012/ILSVRC2012_img_val.tar"), "'ILSVRC2012_img_val.tar' in"),
        ("imagenet1k", "flat val", text(TRUTH, lambda t: "1001\n" + t), f"{TRUTH}:1: a class's number"),
        ("imagenet1k", "flat val", text(TRUTH, lambda t: t.replace("\n", "\nx", 1)), f"{TRUTH}:2:"),
        ("imagenet1k", "flat val", text(TRUTH, lambda t: t[:20]), "has labels of images 1 to"),
        ("imagenet1k", "flat val", replaced(META, b"MATLAB 5.0" + bytes(200)), "cannot be read as a MATLAB"),
        ("imagenet1k", "flat val", replaced(META, small_sets._mat()), "no array 'synsets'"),
        ("imagenet1k", "flat val", removed(META), "meta.mat is needed once"),
        ("imagenet_a", "folder", replaced("imagenet-a/n01440764/1.jpg", b""), "none of the 200 classes"),
        (
            "imagenet_v2",
            "folder",
            replaced("imagenetv2-matched-frequency-format-val/1000/1.jpg", b""),
            "'1000'",
        ),
        ("imagenet_sketch", "archive", cut("ImageNet-Sketch.zip"), "ImageNet-Sketch.zip: not a readable zip"),
        ("inaturalist2019", "folder", replaced(INAT, b"{"), f"{INAT}: cannot be read as JSON"),
        ("inaturalist2019", "folder", replaced(INAT, b"\xff\xfe"), f"{INAT}: cannot be read as JSON"),
        ("inaturalist2019", "folder", replaced(INAT, DEEP), "nested too deeply"),
        ("inaturalist2019", "folder", replaced(INAT, b"[]"), "an object with categories"),
        ("inaturalist2019", "folder", replaced(INAT, b'{"categories": 3}'), "categories: a list of objects"),
        (
            "inaturalist2019",
            "folder",
            removed("inaturalist2019/train_val2019/Plants/3/0001.jpg"),
            "1 of its images are not in",
        ),
        (
            "inaturalist2019",
            "folder",
            document(INAT, lambda d: d["images"][1].update(id=0)),
            "images[1]: id 0 stands twice",
        ),
        (
            "inaturalist2019",
            "folder",
            document(INAT, lambda d: d["images"][1].update(file_name=d["images"][0]["file_name"])),
            "stands twice",
        ),
        (
            "inaturalist2019",
            "folder",
            document(INAT, lambda d: d["images"][1].update(file_name="../../secret.jpg")),
            "leads outside",
        ),
        (
            "inaturalist2019",
            "folder",
            document(INAT, lambda d: d["annotations"][1].update(category_id=12)),
            "annotations[1]: no category_id 12",
        ),
        (
            "inaturalist2019",
            "folder",
            document(INAT, lambda d: d["annotations"][1].update(image_id=[1])),
            "annotations[1]: no image_id [1]",
        ),
        (
            "inaturalist2019",
            "folder",
            document(INAT, lambda d: d["annotations"].pop(4)),
            "1 images have no annotation",
        ),
        (
            "inaturalist2019",
            "folder",
            document(INAT, lambda d: d["annotations"].append({"image_id": 0, "category_id": 7})),
            "is of two categories",
        ),
        (
            "inaturalist2019",
            "folder",
            document(INAT, lambda d: d["categories"].append({"id": 99, "name": "NEWONE"})),
            "its categories are not those of",
        ),
        ("annotated", "archive", cut("images.tar.xz"), "images.tar.xz: cannot be unpacked"),
        ("tiny_imagenet", "folder", text(TINY, lambda t: t.replace("\t", " ")), f"{TINY}:1: a name, a tab"),
        (
            "tiny_imagenet",
            "folder",
            text(TINY, lambda _: "val_1.JPEG\tn00000000\n"),
            "wnid 'n00000000' is none",
        ),
        ("tiny_imagenet", "folder", text(TINY, lambda t: "x.JPEG\tn01443537\n" + t), "'x.JPEG' is not in"),
        ("tiny_imagenet", "folder", text(TINY, lambda t: t + t), "stands twice"),
        (
            "tiny_imagenet",
            "folder",
            replaced("tiny-imagenet-200/train/n00000000/images/1.JPEG", b""),
            "folder 'n00000000' is none of the 200",
        ),
        ("tiny_imagenet", "zip", cut("tiny-imagenet-200.zip", 0.9), "not a readable zip"),
        ("pets", "folder", text(PETS, lambda t: t.replace(" 37 ", " 38 ", 1)), "class 38 is no breed"),
        ("pets", "folder", text(PETS, lambda t: t.replace(" 37 ", " 36 ", 1)), "class 36 is wheaten_terrier"),
        ("pets", "folder", text(PETS, lambda t: t + t), "stands twice"),
        ("pets", "folder", text(PETS, lambda t: t + "Maine_Coon_1 21 1 1\n"), "stands in both lists"),
        ("pets", "folder", text(PETS, lambda t: t + "Maine_Coon_99 21 1 1\n"), "1 images are missing"),
        ("pets", "folder", text(PETS, lambda t: t + "Maine_Coon_99\n"), "an image and three numbers"),
        ("flowers102", "folder", removed("flowers102/jpg/image_00003.jpg"), "'image_00003.jpg' is the first"),
        ("flowers102", "folder", replaced("flowers102/setid.mat", b""), "cannot be read as a MATLAB file"),
        ("flowers102", "archive", cut("flowers-102/102flowers.tgz"), "102flowers.tgz: cannot be unpacked"),
        ("cifar10", "folder", cut("cifar-10-batches-py/data_batch_3"), "data_batch_3: not a pickle"),
        ("cifar10", "folder", removed("cifar-10-batches-py/data_batch_5"), "no file 'data_batch_5'"),
        ("cifar10", "archive", cut("cifar-10-python.tar.gz"), "cannot be unpacked"),
        ("webdataset", "numbers", removed("shards/train-001.tar"), "no 'shards/train-001.tar'"),
        ("webdataset", "numbers", cut("shards/train-001.tar", 0.4), "train-001.tar"),
        ("hf_image_set", "parquet", cut("birds/data/test-00000-of-00001.parquet"), "not a readable parquet"),
        ("hf_image_set", "saved", cut("birds/train/data-00001-of-00002.arrow", 0.6), "not a readable arrow"),
        ("shift_folder", "archive", removed("classes.json"), "no 'classes.json'"),
    ],
)
def test_damage_is_named(name: str, form: str, damage: Damage, said: str, tmp_path: Path) -> None:
    """Each is one line that says what is wrong in which file."""
    root = tmp_path / "root"
    root.mkdir()
    assert said in refused(name, form, root, damage)


class Intruder:
    """What runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_pickle_that_runs_code_is_refused_and_does_not_run(protocol: int, tmp_path: Path) -> None:
    """Neither at the top nor below a field of CIFAR's: it is named, and nothing happened."""
    mark = tmp_path / "it ran"
    root = tmp_path / "root"
    root.mkdir()
    for hostile in (Intruder(mark), {"data": Intruder(mark), "labels": [0]}):
        data = pickle.dumps(hostile, protocol=protocol)
        damage = replaced("cifar-10-batches-py/data_batch_1", data)
        assert "data_batch_1: not a pickle that is read here" in refused("cifar10", "folder", root, damage)
        assert not mark.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cposix\nsystem\n(S'true'\ntR.",
        b"\x80\x02cnumpy\nload\nX\x01\x00\x00\x00x\x85R.",
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00xX\x03\x00\x00\x00hex\x86R.",
        b"\x80\x02" + b")" + b"\x85" * 200_000 + b".",
        b"\x80\x02" + b"]" * 100 + b".",
        b"\x80\x02}r\xff\xff\xff\x7f.",
        pickle.dumps([1, 2]),
        b"",
    ],
    ids=["system", "numpy.load", "codecs", "tuples in tuples", "stack", "memo", "list", "nothing"],
)
def test_pickle_of_anything_else_is_refused(data: bytes) -> None:
    """Names outside the few that arrays need, other codecs, absurd nesting, and what is no dict."""
    with pytest.raises(WorldError, match="x: not a pickle that is read here"):
        parse_pickle(data, "x")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": [10] * 20}, "labels: 10 is none of 0 to 9"),
        ({"labels": [0]}, "labels: a list of 20 numbers is needed"),
        ({"labels": "none"}, "labels: a list of 20 numbers is needed"),
        ({"data": [1, 2]}, "data: an array (N, 3072) of bytes is needed"),
    ],
)
def test_labels_of_cifar_are_checked(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    """A label out of range, too few of them, or pixels that are none."""
    values = {"labels": [0] * 20, "data": small_sets._pixels("x", 20), **change}
    damage = replaced("cifar-10-batches-py/data_batch_1", small_sets.python3_pickle(values))
    assert said in refused("cifar10", "folder", tmp_path, damage)


def test_names_of_cifar_are_checked(tmp_path: Path) -> None:
    """Classes in another order than the published one are another data set."""
    data = small_sets.python2_pickle({"label_names": ["cat", "dog"]})
    damage = replaced("cifar-10-batches-py/batches.meta", data)
    assert "batches.meta: label_names: the 10 classes" in refused("cifar10", "folder", tmp_path, damage)


def hostile_members() -> list[tuple[str, tarfile.TarInfo]]:
    """Members that no archive of images has."""
    link, hard, device = (tarfile.TarInfo("n01440764/1.jpg") for _ in range(3))
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    hard.type, hard.linkname = tarfile.LNKTYPE, "../secret"
    device.type = tarfile.CHRTYPE
    return [
        ("leads outside", tarfile.TarInfo("../../outside.jpg")),
        ("leads outside", tarfile.TarInfo("/outside.jpg")),
        ("link or a device", link),
        ("link or a device", hard),
        ("link or a device", device),
    ]


@pytest.mark.parametrize(("said", "member"), hostile_members())
@pytest.mark.parametrize("nested", ["", "nested"])
def test_hostile_member_is_refused_in_every_tar(
    said: str, member: tarfile.TarInfo, nested: str, tmp_path: Path
) -> None:
    """Also in a tar that stands in a tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(member)
    path = tmp_path / "hostile.tar"
    path.write_bytes(tar_of({"n01440764.tar": buffer.getvalue()}) if nested else buffer.getvalue())
    with pytest.raises(WorldError, match=said) as caught:
        (open_nested if nested else open_files)(path)
    assert "hostile.tar" in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["hostile.tar"]


def zip_with(*names: str, mode: int = 0) -> bytes:
    """A zip of members with these names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, b"data")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (zip_with("../outside.jpg"), "leads outside"),
        (zip_with("/outside.jpg"), "leads outside"),
        (zip_with("a\\..\\..\\b.jpg"), "leads outside"),
        (zip_with("a/1.jpg", mode=0o120777), "link or a device"),
        (zip_with("a/1.jpg").replace(b"a/1.jpg", bytes(7)), "leads outside"),
        (zip_with("a/1.jpg", "a//1.jpg"), "stands twice"),
        (zip_with("a/1.jpg").replace(b"\0\0\0\0\0\0\x21\0", b"\0\0\x63\0\0\0\x21\0"), "packed in a way"),
        (b"PK", "not a readable zip"),
    ],
)
def test_hostile_zip_is_refused(data: bytes, said: str, tmp_path: Path) -> None:
    """Outside, links, twice, packed in an unknown way, and none at all."""
    path = tmp_path / "hostile.zip"
    path.write_bytes(data)
    with pytest.raises(WorldError, match=said) as caught:
        open_files(path)
    assert str(path) in str(caught.value)


def test_damaged_member_of_a_zip_is_named(tmp_path: Path) -> None:
    """A member whose bytes have changed does not pass for an image."""
    data = bytearray(zip_of({"a/1.jpg": picture("x")}))
    data[60] ^= 0xFF
    path = tmp_path / "damaged.zip"
    path.write_bytes(data)
    files = open_files(path)
    with pytest.raises(WorldError, match=r"damaged\.zip/a/1\.jpg"):
        files.read("a/1.jpg")


@pytest.mark.parametrize("name", ["bomb.tar.gz", "bomb.tar.xz"])
def test_bomb_is_not_unpacked(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive that grows beyond what memory is for is refused with what to do."""
    monkeypatch.setattr(tree, "UNPACKED_AT_MOST", 1 << 20)
    mode = "w:gz" if name.endswith("gz") else "w:xz"
    (tmp_path / name).write_bytes(tar_of({"a/1.jpg": bytes(4 << 20)}, mode))
    with pytest.raises(WorldError, match=r"bomb.* more than 1 MiB .* unpack it once"):
        open_files(tmp_path / name)


def test_zip_member_that_says_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member of a size that no image has is refused before it is unpacked."""
    monkeypatch.setattr("vitkd_bench.pipeline.zips.MEMBER_AT_MOST", 1 << 20)
    (tmp_path / "bomb.zip").write_bytes(zip_of({"a/1.jpg": bytes(4 << 20)}))
    with pytest.raises(WorldError, match="no image is so large"):
        open_files(tmp_path / "bomb.zip")


def test_deep_json_is_refused() -> None:
    """Nesting beyond what Python reads is one line and no crash."""
    with pytest.raises(WorldError, match="x: cannot be read as JSON: nested too deeply"):
        parse_json(DEEP, "x")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"1.jpg": b"x"}, "neither .cls nor .json"),
        ({"1.jpg": b"x", "1.png": b"x", "1.cls": b"0"}, "one image is needed"),
        ({"1.cls": b"0"}, "one image is needed"),
        ({"1.jpg": b"x", "1.cls": b"6"}, "label '6' is none of the classes"),
        ({"1.jpg": b"x", "1.cls": b"-1"}, "label '-1' is none of the classes"),
        ({"1.jpg": b"x", "1.cls": b""}, "a number or a class's name is needed"),
        ({"1.jpg": b"x", "1.json": b'{"label": 1.5}'}, "a number or a class's name is needed"),
        ({"1.jpg": b"x", "1.json": b'{"label": true}'}, "a number or a class's name is needed"),
        ({"1.jpg": b"x", "1.json": b"[1]"}, "a number or a class's name is needed"),
        ({"1.jpg": b"x", "1.json": b"{"}, "cannot be read as JSON"),
    ],
)
def test_samples_of_shards_are_checked(files: dict[str, bytes], said: str, tmp_path: Path) -> None:
    """No label, none that is a class, two images, none."""
    damage = replaced("shards/train-001.tar", tar_of(files))
    assert said in refused("webdataset", "numbers", tmp_path, damage)


def test_a_number_is_not_taken_for_another_class(tmp_path: Path) -> None:
    """Where the classes are the numbers 1 to 3, a 0 in test is no class, and not the first one."""
    for part, labels in (("train", "112233"), ("test", "0123")):
        files = {f"{i}.cls": label.encode() for i, label in enumerate(labels)}
        files |= {f"{i}.jpg": b"x" for i in range(len(labels))}
        (tmp_path / f"{part}.tar").write_bytes(tar_of(files))
    settings = {"train": "train.tar", "test": "test.tar", "val": {"per_class": 1}}
    dataset = resolve_dataset(DATASETS.get("webdataset"), settings, (tmp_path,))
    assert [info.name for info in dataset.classes] == ["1", "2", "3"]
    with pytest.raises(WorldError, match=r"test\.tar/0\.jpg: label '0' is none of the classes"):
        open_splits(dataset, (tmp_path,), 8)


@pytest.mark.parametrize("pattern", ["shards/train-{002..000}.tar", "shards/train-{0..99999999}.tar"])
def test_ranges_of_shards_are_checked(pattern: str, tmp_path: Path) -> None:
    """A range downwards, or of more shards than anybody has, is the suite's mistake."""
    written = own_sets.shards_of_numbers(tmp_path)
    written.settings["train"] = pattern
    with pytest.raises(BadInputError, match="is no range from low to high"):
        read("webdataset", tmp_path, written)


KIND = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
NO_BYTES = pa.array([{"bytes": None, "path": "1.jpg"}] * 18, KIND)


@pytest.mark.parametrize(
    ("change", "settings", "said"),
    [
        (lambda table: table, {"image": "picture"}, "no column 'picture'"),
        (lambda table: table, {"image": "label"}, "column 'label' holds no images but int64"),
        (lambda table: table.replace_schema_metadata({}), {}, "has no class names"),
        (lambda table: table.set_column(1, "label", pa.array([6] * 18)), {}, "label 6 is none of 0 to 5"),
        (lambda table: table.set_column(0, "image", NO_BYTES), {}, "no bytes of an image"),
    ],
)
def test_columns_of_tables_are_checked(
    change: Callable[[Any], Any], settings: dict[str, str], said: str, tmp_path: Path
) -> None:
    """No such column, labels without names, labels out of range, rows without an image."""
    written = own_sets.parquet_set(tmp_path)
    written.settings.update(settings)
    path = tmp_path / "birds" / "data" / "train-00000-of-00002.parquet"
    pq.write_table(change(pq.read_table(path)), path)
    with pytest.raises(WorldError, match=said):
        read_all(tmp_path, written)


def read_all(root: Path, written: Written) -> None:
    """Read every image of a Hugging Face set."""
    for part in read("hf_image_set", root, written)[1].values():
        for i in range(len(part)):
            part.images.read(i)


def test_missing_split_is_named(tmp_path: Path) -> None:
    """A split that has no files is named with those that have."""
    written = own_sets.parquet_set(tmp_path)
    written.settings["test"] = "validation"
    with pytest.raises(WorldError, match=r"no files of split 'validation'.* known: test, train"):
        read("hf_image_set", tmp_path, written)


def test_unreadable_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that cannot be listed is an error, not a class without images."""
    imagenet.imagenet_folders(tmp_path)
    plain = os.scandir

    def forbidden(path: Any) -> Any:
        if str(path).endswith(imagenet.KEPT[1]):
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    with pytest.raises(WorldError, match=f"{imagenet.KEPT[1]}: cannot be listed: Permission denied"):
        open_files(tmp_path / "imagenet" / "train")


def test_every_data_set_says_what_is_missing(tmp_path: Path) -> None:
    """Taking any file that is not an image away is one line that names a path."""
    for name, forms in sorted(LAYOUTS.items()):
        for form in forms:
            root = tmp_path / f"{name} {form}"
            root.mkdir()
            written = write(name, form, root)
            pictures = (".jpg", ".JPEG", ".jpeg")
            named = [p for p in root.rglob("*") if p.is_file() and not p.name.endswith(pictures)]
            for path in named:
                if path.name in UNREAD or path.name.endswith("_boxes.txt"):
                    continue
                data = path.read_bytes()
                path.unlink()
                with pytest.raises(VitkdError) as caught:
                    read(name, root, written)
                assert str(root) in str(caught.value), (name, form, path)
                path.write_bytes(data)


UNREAD = {
    "readme.txt",
    "wnids.txt",
    "words.txt",
    "list.txt",
    "Abyssinian_100.mat",
    "._Abyssinian_1.png",
    "state.json",
    "dataset_dict.json",
}
"""Files that are there and that no reader needs."""
