"""Trees of files: a folder and every kind of archive read alike, and what is hostile or broken is named."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vitkd_bench.pipeline.tree import find, open_tree
from vitkd_bench.spec import WorldError

Pack = Callable[..., Path]
KINDS = [(".tar", "w"), (".tar.gz", "w:gz"), (".tgz", "w:gz"), (".tar.xz", "w:xz")]


def linked(kind: bytes) -> tarfile.TarInfo:
    """A member that is no plain file."""
    info = tarfile.TarInfo("cat/link.png")
    info.type, info.linkname = kind, "../secret"
    return info


@pytest.mark.parametrize(("suffix", "mode"), KINDS)
def test_archive_reads_as_its_folder_does(birds: Path, pack: Pack, suffix: str, mode: str) -> None:
    """Names, order and bytes are the same from a folder and from an archive of it."""
    (birds / "train" / ".DS_Store").write_text("left by a file browser")
    path = pack(birds / "train", birds / f"packed{suffix}", mode)
    folder, archive = open_tree(birds / "train"), open_tree(path)
    assert folder.folders == archive.folders
    assert {name: len(files) for name, files in archive.folders.items()} == {
        "crane": 12,
        "drake": 12,
        "heron": 12,
    }
    for name, files in folder.folders.items():
        assert [folder.read(f"{name}/{f}") for f in files] == [archive.read(f"{name}/{f}") for f in files]


@pytest.mark.parametrize(
    ("member", "said"),
    [
        ("/etc/passwd", "leads outside"),
        ("../cat/1.png", "leads outside"),
        ("cat/../../1.png", "leads outside"),
        (linked(tarfile.SYMTYPE), "link or a device"),
        (linked(tarfile.LNKTYPE), "link or a device"),
        (linked(tarfile.FIFOTYPE), "link or a device"),
        ("top.png", "not class/file"),
        ("cat/images/1.png", "not class/file"),
        ("cat/0.png", "stands twice"),
        ("./cat//0.png", "stands twice"),
    ],
)
def test_hostile_archive_is_refused_by_member(
    archive_of: Pack, member: tarfile.TarInfo | str, said: str
) -> None:
    """A member that leads outside, is a link, stands twice or is laid out otherwise ends it by name."""
    path = archive_of("cat/0.png", member)
    with pytest.raises(WorldError, match=said) as caught:
        open_tree(path)
    assert path.name in str(caught.value)


@pytest.mark.parametrize(("suffix", "mode"), KINDS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.99])
def test_truncated_archive_is_noticed(birds: Path, pack: Pack, suffix: str, mode: str, share: float) -> None:
    """An archive cut off anywhere, as by a broken download, is noticed before an image is missed."""
    path = pack(birds / "train", birds / f"packed{suffix}", mode)
    whole = path.read_bytes()
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        end = tar.getmembers()[-1].offset_data + 512 if suffix == ".tar" else len(whole)
    path.write_bytes(whole[: int(end * share)])
    with pytest.raises(WorldError, match=r"packed"):
        open_tree(path)


def test_archive_cut_between_two_members_is_noticed(birds: Path, pack: Pack) -> None:
    """A tar cut off exactly behind a member looks whole to tarfile, and is noticed."""
    path = pack(birds / "train", birds / "packed.tar")
    with tarfile.open(path) as tar:
        half = tar.getmembers()[18].offset
    path.write_bytes(path.read_bytes()[:half])
    with pytest.raises(WorldError, match="ends early"):
        open_tree(path)


def test_damage_between_members_is_noticed(birds: Path, pack: Pack) -> None:
    """A header that is overwritten, at which tarfile stops without a word, is noticed."""
    path = pack(birds / "train", birds / "packed.tar")
    with tarfile.open(path) as tar:
        half = tar.getmembers()[18].offset
    whole = bytearray(path.read_bytes())
    whole[half : half + 512] = b"x" * 512
    path.write_bytes(whole)
    with pytest.raises(WorldError, match=r"packed\.tar"):
        open_tree(path)


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    """A file of another kind is refused with the kinds that can be read."""
    (tmp_path / "images.rar").write_bytes(b"Rar!")
    with pytest.raises(WorldError, match=r"\.tar\.xz"):
        open_tree(tmp_path / "images.rar")


def test_roots_are_searched_in_order(tmp_path: Path) -> None:
    """A name is found under the first root that has it; if none has, the places and the remedy are named."""
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
    (second / "x").mkdir()
    assert find("x", "train", (first, second), "folder") == second / "x"
    (first / "x").mkdir()
    assert find("x", "train", (first, second), "folder") == first / "x"
    with pytest.raises(WorldError, match="VITKD_DATA") as caught:
        find("y", "train", (first, second), "folder")
    assert all(part in str(caught.value) for part in ("'y'", "train", str(first), str(second)))


def test_a_class_that_is_a_link_is_read(birds: Path) -> None:
    """A part of a large data set is often made of links to folders: no class of it is lost."""
    (birds / "some").mkdir()
    for name in ("crane", "drake"):
        (birds / "some" / name).symlink_to(birds / "train" / name)
    found = open_tree(birds / "some")
    assert {name: len(files) for name, files in found.folders.items()} == {"crane": 12, "drake": 12}
    assert found.read("drake/0.png") == (birds / "train" / "drake" / "0.png").read_bytes()


@pytest.mark.parametrize("target", ["crane", ""])
def test_two_links_to_one_folder_are_refused(birds: Path, target: str) -> None:
    """Images would stand twice, under two classes, or for ever where a link leads to what it lies in."""
    for name in ("one", "two") if target else ("one",):
        (birds / "train" / name).symlink_to(birds / "train" / target)
    with pytest.raises(WorldError, match=r"a link to .*, to which another link leads already"):
        open_tree(birds / "train")


def test_an_empty_folder_is_a_class_without_images(birds: Path) -> None:
    """It is told of, and hidden ones are no classes; one below a class that has images is no matter."""
    for name in ("owl", "wren/more", ".ipynb_checkpoints", "crane/more"):
        (birds / "train" / name).mkdir(parents=True)
    found = open_tree(birds / "train").folders
    assert [name for name, files in found.items() if not files] == ["owl", "wren"]
    assert len(found["crane"]) == 12


def test_what_has_no_room_in_memory_is_one_line(birds: Path, pack: Pack) -> None:
    """A compressed archive is unpacked piece by piece, and its size is not asked for at once."""

    class Full(io.BytesIO):
        def write(self, _: Any) -> int:
            raise MemoryError

    path = pack(birds / "train", birds / "birds.tar.gz", "w:gz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vitkd_bench.pipeline.tree.io.BytesIO", Full)
        with pytest.raises(WorldError, match=r"birds\.tar\.gz: has no room in memory .* unpack it once"):
            open_tree(path)
