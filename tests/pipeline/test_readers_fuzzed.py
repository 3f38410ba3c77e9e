"""Readers on files that chance has damaged: one line or the images, never a traceback, never a write."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pipeline.layouts import imagenet, small_sets
from tests.pipeline.layouts.every_layout import write
from tests.pipeline.layouts.pictures import Written
from tests.pipeline.layouts.small_sets import python2_pickle, python3_pickle
from tests.pipeline.test_official_layouts import content, read, snapshot
from vitkd_bench.pipeline.annotations import parse_annotations
from vitkd_bench.pipeline.foreign import parse_json, parse_mat
from vitkd_bench.pipeline.pickles import parse_pickle
from vitkd_bench.spec import VitkdError, WorldError

Damage = Callable[[bytes], bytes]
Layout = tuple[str, Path, Written, Path]
QUICK = settings(max_examples=20, deadline=None, derandomize=True)
AIMS = [
    ("imagenet1k", "tars", "ILSVRC2012_img_train.tar"),
    ("imagenet1k", "tars", "ILSVRC2012_img_val.tar"),
    ("imagenet1k", "tars", "ILSVRC2012_devkit_t12.tar.gz"),
    ("imagenet_sketch", "archive", "ImageNet-Sketch.zip"),
    ("imagenet_v2", "archive", "imagenetv2-matched-frequency.tar.gz"),
    ("inaturalist2019", "folder", "train2019.json"),
    ("inaturalist2017", "archive", "train_val2017.zip"),
    ("annotated", "archive", "images.tar.xz"),
    ("cifar10", "folder", "data_batch_1"),
    ("tiny_imagenet", "folder", "val_annotations.txt"),
    ("tiny_imagenet", "zip", "tiny-imagenet-200.zip"),
    ("pets", "folder", "trainval.txt"),
    ("webdataset", "numbers", "train-001.tar"),
    ("hf_image_set", "parquet", "test-00000-of-00001.parquet"),
    ("hf_image_set", "saved", "data-00000-of-00002.arrow"),
    ("shift_folder", "archive", "classes.json"),
]


@st.composite
def damages(draw: st.DrawFn) -> Damage:
    """Cut off, overwrite a few bytes, put some in, or repeat a part."""
    kind = draw(st.sampled_from(["cut", "overwrite", "insert", "repeat"]))
    where = draw(st.floats(0, 1))
    data = draw(st.binary(min_size=1, max_size=40))

    def damage(whole: bytes) -> bytes:
        at = int(where * len(whole))
        if kind == "cut":
            return whole[:at]
        if kind == "overwrite":
            return whole[:at] + data + whole[at + len(data) :]
        if kind == "insert":
            return whole[:at] + data + whole[at:]
        return whole[:at] + whole[at // 2 : at] + whole[at:]

    return damage


@pytest.fixture(scope="module", params=AIMS, ids=" ".join)
def layout(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A layout on disk, and the file of it that is damaged."""
    name, form, file = request.param
    root = tmp_path_factory.mktemp("fuzzed") / "root"
    root.mkdir()
    written = write(name, form, root)
    return name, root, written, next(root.rglob(file))


@QUICK
@given(damage=damages())
def test_damaged_layout_is_read_or_refused(layout: Layout, damage: Damage) -> None:
    """What comes of it are images or one line; no other error, and no file that was not there."""
    name, root, written, path = layout
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    before = snapshot(root.parent)
    said = said_of(lambda: read_all(name, root, written))
    after = snapshot(root.parent)
    path.write_bytes(whole)
    assert after == before
    assert not said or (str(root) in said and "\n" not in said)


@settings(max_examples=4, deadline=None, derandomize=True)
@given(damage=damages())
@pytest.mark.parametrize(("name", "file"), [("flowers102", "setid.mat"), ("imagenet1k", "meta.mat")])
def test_damaged_matlab_file_is_read_or_refused(name: str, file: str, damage: Damage) -> None:
    """The same of MATLAB files, of which few: each is read in a process of its own."""
    files = small_sets.flowers_files()[0] if name == "flowers102" else imagenet.devkit_files({})
    whole = next(data for path, data in files.items() if path.endswith(file))
    fields = ("synsets",) if file == "meta.mat" else ("trnid", "valid", "tstid")
    said = said_of(lambda: parse_mat(damage(whole), "x.mat", *fields))
    assert not said or said.startswith("x.mat: ")


def test_matlab_file_that_crashes_its_reader_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader of scipy ends its process on some damaged files: this one goes on, and names the file."""
    whole = bytearray(small_sets.flowers_files()[0]["setid.mat"])
    found = whole.copy()
    found[66:68], found[168] = b"22", 155
    assert said_of(lambda: parse_mat(bytes(found), "x.mat", "trnid")).startswith("x.mat: ")
    dies = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    monkeypatch.setattr("vitkd_bench.pipeline.foreign.MAT_SCRIPT", ("-c", dies))
    said = said_of(lambda: parse_mat(bytes(whole), "x.mat", "trnid"))
    assert said == "x.mat: cannot be read as a MATLAB file: its reader crashed on it"


def read_all(name: str, root: Path, written: Written) -> None:
    """Read every image of a layout."""
    for part in read(name, root, written)[1].values():
        for i in range(len(part)):
            content(part, i)


def said_of(call: Callable[[], object]) -> str:
    """What a call refuses its input with; nothing if it does not. Any other error is the test's failure."""
    try:
        call()
    except VitkdError as error:
        return str(error)
    return ""


FIELDS = ("id", "name", "categories", "images", "annotations", "image_id", "file_name", "category_id")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 20) | st.floats(allow_nan=True) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(FIELDS),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(document=JSON)
def test_any_json_is_annotations_or_is_refused(document: object) -> None:
    """Any JSON of the right words in any wrong place is refused in one line."""
    data = json.dumps(document).encode()
    said = said_of(lambda: parse_annotations(data, "x.json").classes())
    assert not said or said.startswith("x.json: ")


@settings(max_examples=50, deadline=None, derandomize=True)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_refused(data: bytes) -> None:
    """Chance makes neither a pickle nor a MATLAB file; JSON it may."""
    for parse in (parse_pickle, parse_mat):
        with pytest.raises(WorldError, match=r"^x: "):
            parse(data, "x")
    said = said_of(lambda: parse_json(data, "x"))
    assert not said or said.startswith("x: ")


@settings(max_examples=50, deadline=None, derandomize=True)
@given(damage=damages(), old=st.booleans())
def test_damaged_pickle_is_read_or_refused(*, damage: Damage, old: bool) -> None:
    """A pickle that is damaged anywhere gives plain data or one line, and runs nothing."""
    values = {"labels": [1, 2, 3], "data": np.arange(12, dtype=np.uint8).reshape(3, 4), "batch_label": "x"}
    data = damage((python2_pickle if old else python3_pickle)(values))
    said = said_of(lambda: parse_pickle(data, "x"))
    assert not said or said.startswith("x: not a pickle")
