"""Images with labels: every layout that is promised, even draws, and the cut of an evaluation."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from vitkd_bench.diagnose import read_labelled
from vitkd_bench.diagnose.labelled import LabelledImages, _spread, encoded
from vitkd_bench.spec import BadInputError, Head, WorldError

HEAD = Head(kind="labels", label_space="imagenet1k", num_classes=1000)


def picture(shade: int, size: tuple[int, int] = (40, 30)) -> bytes:
    """One grey image as PNG."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade, shade, shade)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of two images, `class/file`."""
    for c in range(3):
        (tmp_path / f"n{c}").mkdir()
        for i in range(2):
            (tmp_path / f"n{c}" / f"{i}.png").write_bytes(picture(10 * c + i))
    return tmp_path


def test_folders_are_classes(folder: Path) -> None:
    """Without a list of classes the folders are the classes, and no head knows them."""
    images = read_labelled(folder)
    assert [info.name for info in images.classes] == ["n0", "n1", "n2"]
    assert images.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert images.logits_of(HEAD) is None
    assert images.smallest_class() == 2


def test_folders_called_by_wnid_are_classes_of_imagenet(tmp_path: Path) -> None:
    """`n01443537` is logit 1 of a head of ImageNet-1k; with one wnid that is not of these, none is."""
    for i, wnid in enumerate(("n01440764", "n15075141", "n01443537")):
        (tmp_path / wnid).mkdir()
        (tmp_path / wnid / "a.png").write_bytes(picture(i))
    columns = read_labelled(tmp_path).logits_of(HEAD)
    assert columns is not None
    assert columns.tolist() == [0, 1, 999]
    (tmp_path / "n00000001").mkdir()
    (tmp_path / "n00000001" / "a.png").write_bytes(picture(9))
    assert read_labelled(tmp_path).logits_of(HEAD) is None


def test_flat_files_need_a_list(tmp_path: Path) -> None:
    """Files without folders and without a list: both layouts are named."""
    (tmp_path / "a.png").write_bytes(picture(1))
    with pytest.raises(BadInputError, match=r"class/file, or put a classes\.json"):
        read_labelled(tmp_path)


def test_a_list_of_classes_gives_their_logits(folder: Path) -> None:
    """`classes.json` in the folder names the classes and their place in the head's space."""
    (folder / "images").mkdir()
    for c in range(3):
        (folder / f"n{c}").rename(folder / "images" / f"n{c}")
    rows = [{"wnid": f"n{c}", "name": f"c{c}", "imagenet1k_index": 100 - c} for c in range(3)]
    (folder / "classes.json").write_text(json.dumps(rows))
    columns = read_labelled(folder).logits_of(HEAD)
    assert columns is not None
    assert columns.tolist() == [100, 99, 98]
    small = HEAD.model_copy(update={"num_classes": 100})
    assert read_labelled(folder).logits_of(small) is None  # one of the classes is beyond this head


def test_flat_files_have_an_index_each(tmp_path: Path) -> None:
    """A tar of files under a list with `index` and `file`; what is no whole space is another one."""
    rows = [{"index": i, "wnid": f"n{i}", "name": f"c{i}", "file": f"{i}.png"} for i in (4, 2, 9)]
    (tmp_path / "classes.json").write_text(json.dumps(rows))
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        for row in rows:
            data = picture(int(row["index"]))
            info = tarfile.TarInfo(str(row["file"]))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    images = read_labelled(tmp_path)
    columns = images.logits_of(HEAD)
    assert columns is not None
    assert columns[images.labels].tolist() == [2, 4, 9]
    assert [int(i[0, 0, 0]) for i in images.cut(20, 1.0)] == [2, 4, 9]  # each image with its own label
    assert images.label_space != "imagenet1k"


@given(st.lists(st.integers(1, 6), min_size=1, max_size=12), st.integers(1, 40), st.integers(1, 4))
def test_a_draw_is_even(counts: list[int], limit: int, per_class: int) -> None:
    """Never more than asked, nothing twice, and as many as there are if all are asked for."""
    members = [[(c, f"{c}/{i}") for i in range(count)] for c, count in enumerate(counts)]
    drawn = _spread(members, limit, per_class)
    assert len(drawn) == len(set(drawn)) <= max(limit, 1)
    assert set(drawn) <= {m for of_class in members for m in of_class}
    if limit >= sum(counts):
        assert len(drawn) == sum(counts)


def test_several_images_a_class_can_be_asked_for(folder: Path) -> None:
    """Under a limit of two the draw is of one class if two of each are wanted, else of two classes."""
    assert read_labelled(folder, 2, 2).labels.tolist() == [0, 0]
    assert len(set(read_labelled(folder, 2).labels.tolist())) == 2


@pytest.mark.parametrize("size", [(341, 256), (256, 512), (300, 300)])
def test_the_cut_is_torchvisions(size: tuple[int, int]) -> None:
    """Shorter side to floor(side / crop) by PIL's bicubic, then the middle: as torchvision does it."""
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    (file,) = encoded(noise.transpose(2, 0, 1)[None])
    images = LabelledImages("x", (file,), np.array([0]), (), "x")
    resized = tv.resize(Image.fromarray(noise), [248], interpolation=tv.InterpolationMode.BICUBIC)
    expected = np.asarray(tv.center_crop(resized, [224, 224])).transpose(2, 0, 1)
    assert np.array_equal(images.cut(224, 0.9)[0], expected)


def test_a_small_image_is_enlarged_whole() -> None:
    """64 pixels for a network of 224: nothing is cut off, whatever the crop."""
    noise = np.random.default_rng(0).integers(0, 256, (1, 3, 64, 64), dtype=np.uint8)
    images = LabelledImages("x", encoded(noise), np.array([0]), (), "x")
    whole = Image.fromarray(noise[0].transpose(1, 2, 0)).resize((224, 224), Image.Resampling.BICUBIC)
    assert np.array_equal(images.cut(224, 0.9)[0], np.asarray(whole).transpose(2, 0, 1))
    assert images.cut(32, 1.0, channels=1).shape == (1, 1, 32, 32)


def test_any_change_changes_the_digest(folder: Path) -> None:
    """A byte of an image, a label or a class's name."""
    before = read_labelled(folder).digest
    assert read_labelled(folder).digest == before
    (folder / "n0" / "0.png").write_bytes(picture(99))
    assert read_labelled(folder).digest != before


def test_what_cannot_be_read_is_named(tmp_path: Path, folder: Path) -> None:
    """No such folder, not a tar, a folder of no class, a flat list without an index."""
    with pytest.raises(WorldError, match="no such folder"):
        read_labelled(tmp_path / "nowhere")
    (tmp_path / "x.rar").write_bytes(b"")
    with pytest.raises(BadInputError, match=r"x\.rar: neither a folder nor one of \.tar"):
        read_labelled(tmp_path / "x.rar")
    (folder / "x.rar").unlink()
    (folder / "classes.json").write_text(json.dumps([{"name": "n0"}, {"name": "n1"}]))
    (folder / "images").mkdir()
    (folder / "n2").rename(folder / "images" / "n2")
    with pytest.raises(BadInputError, match="no class for folder 'n2'"):
        read_labelled(folder)
