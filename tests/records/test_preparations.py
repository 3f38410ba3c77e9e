"""The cache of preparations: whole, verified, shared."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from vitkd_bench.records import Preparations
from vitkd_bench.spec import Record, Run, cache_folder

WEIGHTS = b"weights" * 1000
SHA = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture
def made(make_run: Callable[..., Run], make_record: Callable[..., Record]) -> Record:
    """The record of a finished preparation with these weights."""
    return make_record(make_run("pretrain_labels"), weights_sha256=SHA)


def test_ready_only_when_written(tmp_path: Path, made: Record) -> None:
    """What is written is found, by this process and by another, and nothing is left beside it."""
    cache = Preparations(tmp_path)
    assert cache.ready(made.run_id) is None
    with cache.lock(made.run_id):
        path = cache.write(made, WEIGHTS)
    assert path == cache.weights(made.run_id)
    assert path.read_bytes() == WEIGHTS
    assert cache.ready(made.run_id) == made
    assert Preparations(tmp_path).ready(made.run_id) == made
    assert Preparations(tmp_path).peek(made.run_id) == made
    assert list((tmp_path / "preparations" / "making").iterdir()) == []


def test_a_draft_is_adopted_whole(tmp_path: Path, made: Record) -> None:
    """Weights written piece by piece become a preparation; others than the record's do not."""
    cache = Preparations(tmp_path)
    draft = cache.draft(made.run_id)
    draft.write_bytes(WEIGHTS[:10])
    with pytest.raises(ValueError, match=f"{made.run_id}: done, weights {SHA}, not "):
        cache.adopt(made, draft)
    draft.write_bytes(WEIGHTS)
    assert cache.ready(made.run_id) is None
    assert cache.adopt(made, draft) == cache.weights(made.run_id)
    assert Preparations(tmp_path).ready(made.run_id) == made
    again = cache.draft(made.run_id)
    again.write_bytes(WEIGHTS)
    assert cache.adopt(made, again) == cache.weights(made.run_id)
    assert list((tmp_path / "preparations" / "making").iterdir()) == []


@pytest.mark.parametrize("name", ["weights.safetensors", "record.json"])
@pytest.mark.parametrize("how", ["truncate", "flip", "remove"])
def test_damage_is_noticed_and_made_good(tmp_path: Path, made: Record, name: str, how: str) -> None:
    """A damaged preparation is set aside whole, named, absent, and can be made again."""
    Preparations(tmp_path).write(made, WEIGHTS)
    path = tmp_path / "preparations" / made.run_id / name
    content = path.read_bytes()
    if how == "remove":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if how == "truncate" else content[:99] + b"\x00" + content[100:])
    cache = Preparations(tmp_path)
    assert cache.ready(made.run_id) is None
    assert len(cache.damage) == 1
    assert made.run_id in cache.damage[0]
    assert (tmp_path / "damaged" / made.run_id).is_dir()
    cache.write(made, WEIGHTS)
    assert cache.ready(made.run_id) == made


def test_a_half_made_one_does_not_count(tmp_path: Path, made: Record) -> None:
    """What a killed process leaves aside is no preparation, and is cleared by the next."""
    leftover = tmp_path / "preparations" / "making" / f"{made.run_id}-1-ab" / "weights.safetensors"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(WEIGHTS[:10])
    cache = Preparations(tmp_path)
    assert cache.ready(made.run_id) is None
    cache.write(made, WEIGHTS)
    assert cache.ready(made.run_id) == made
    assert not leftover.exists()


def test_the_first_sound_one_is_kept(tmp_path: Path, made: Record) -> None:
    """Runs that have read a preparation go on reading the same weights."""
    cache = Preparations(tmp_path)
    cache.write(made, WEIGHTS)
    other = made.model_copy(update={"weights_sha256": hashlib.sha256(b"other").hexdigest()})
    assert cache.write(other, b"other").read_bytes() == WEIGHTS
    assert cache.ready(made.run_id) == made


def test_weights_must_be_the_records(tmp_path: Path, made: Record) -> None:
    """Weights that are not those of the record are never written."""
    with pytest.raises(ValueError, match=SHA):
        Preparations(tmp_path).write(made, b"others")
    assert list(tmp_path.iterdir()) == []


def test_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """VITKD_CACHE wins over XDG_CACHE_HOME, which wins over the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("VITKD_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("VITKD_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "vitkd_bench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / "me" / ".cache" / "vitkd_bench"
