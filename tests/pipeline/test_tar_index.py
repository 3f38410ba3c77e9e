"""The index of a large archive: made once, and only as good as the file that it is of."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vitkd_bench.pipeline import tar_index, tree
from vitkd_bench.pipeline.tree import open_files

Pack = Callable[..., Path]


@pytest.fixture
def packed(birds: Path, pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive that counts as large, and a cache of its own."""
    monkeypatch.setenv("VITKD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tar_index, "LARGE", 0)
    return pack(birds / "train", birds / "packed.tar")


def test_a_large_archive_is_walked_once(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second opening gives the same files, bytes and order without walking."""
    first = open_files(packed)
    monkeypatch.setattr(tree, "member_spans", None)
    again = open_files(packed)
    assert first.names == again.names
    assert [first.images.read(i) for i in range(36)] == [again.images.read(i) for i in range(36)]


def test_a_changed_archive_is_walked_again(packed: Path, birds: Path, pack: Pack) -> None:
    """Another content under the same name has an index of its own."""
    before = open_files(packed).names
    pack(birds / "test", packed)
    assert len(open_files(packed).names) == 12 != len(before)


def test_a_touched_archive_is_walked_again(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same size and another time it may be another file."""
    open_files(packed)
    os.utime(packed, ns=(1, 1))
    monkeypatch.setattr(tree, "member_spans", None)
    with pytest.raises(TypeError):
        open_files(packed)


@pytest.mark.parametrize("damage", [b"", b"PK", b"x" * 4000])
def test_a_damaged_index_is_made_anew(packed: Path, tmp_path: Path, damage: bytes) -> None:
    """An index that cannot be read is no index."""
    whole = open_files(packed).names
    (kept,) = (tmp_path / "cache" / "archives").iterdir()
    kept.write_bytes(damage)
    assert open_files(packed).names == whole
    assert kept.read_bytes() != damage


def test_small_archives_keep_none(
    birds: Path, pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written for an archive that is walked at once."""
    monkeypatch.setenv("VITKD_CACHE", str(tmp_path / "cache"))
    open_files(pack(birds / "train", birds / "packed.tar"))
    assert not (tmp_path / "cache").exists()
