"""Verdicts are reached once, and only a whole one of the very same question counts."""

from pathlib import Path

import pytest
from safetensors.torch import save_file

from vitkd_bench.diagnose import (
    Check,
    Verdict,
    ensure_preflight,
    images_at_hand,
    store_verdict,
    stored_verdict,
    verdicts,
)
from vitkd_bench.diagnose.verdict import judge
from vitkd_bench.networks import create_student, weights_sha256
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import HALF_PIXELS, BadInputError

MICRO = TEACHERS.get("micro/deit")
SHA = "ab" * 32


def verdict(status: str = "mark") -> Verdict:
    """A verdict of one check."""
    return judge((Check.parse({"name": "head", "status": status, "finding": "as found"}),), "none", 0)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a cache of its own."""
    monkeypatch.setenv("VITKD_CACHE", str(tmp_path / "cache"))


def test_a_verdict_comes_back_as_it_was() -> None:
    """With the weights' hash and the teacher's name in it."""
    stored = store_verdict(verdict(), MICRO, SHA)
    assert stored_verdict(MICRO, SHA) == stored
    assert (stored.sha256, stored.subject, stored.line) == (SHA, "micro/deit", "mark: as found")


def test_another_question_has_no_answer() -> None:
    """Other weights, another contract, another backend: nothing is stored of these."""
    store_verdict(verdict(), MICRO, SHA)
    assert stored_verdict(MICRO, "cd" * 32) is None
    assert stored_verdict(MICRO.model_copy(update={"notes": "other"}), SHA) is None
    assert stored_verdict(MICRO, SHA, "timm") is None


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-20], lambda b: b.replace(b"mark", b"pass"), lambda b: b[:0]]
)
def test_a_damaged_verdict_counts_as_none(damage: object) -> None:
    """Truncated, altered by hand, or empty."""
    store_verdict(verdict(), MICRO, SHA)
    path = verdicts.verdict_path(MICRO, SHA)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    assert stored_verdict(MICRO, SHA) is None


def test_weights_are_checked_once(tmp_path: Path) -> None:
    """The second time the weights are not even opened."""
    weights = tmp_path / "micro.safetensors"
    save_file(create_student(MICRO.architecture, 10, MICRO.pixels, 0).module.state_dict(), weights)
    sha = weights_sha256(weights)
    first = ensure_preflight(MICRO, MICRO.architecture, weights, sha)
    assert first.sha256 == sha
    assert first.status == "mark"  # its head was never trained
    weights.unlink()
    assert ensure_preflight(MICRO, MICRO.architecture, weights, sha) == first


def test_an_architecture_of_another_contract_is_refused(tmp_path: Path) -> None:
    """Another image size is the contract's own, another width is not."""
    wide = TEACHERS.get("micro/clip").architecture
    with pytest.raises(BadInputError, match="not that of its contract"):
        ensure_preflight(MICRO, wide, tmp_path / "x.safetensors", SHA)


def test_images_at_hand_fit_the_teacher(real_data: Path) -> None:
    """A head of ImageNet gets ImageNet's sample; without a head it is a set with several images a class."""
    deit = TEACHERS.get("deit/ti")
    for teacher, folder in ((deit, "imagenet_sample"), (deit.model_copy(update={"head": None}), "tiny")):
        images = images_at_hand(teacher, (real_data,), 24)
        assert images is not None
        assert folder in images.name
        assert len(images) == 24
    assert images_at_hand(deit, ()) is None
    assert images_at_hand(MICRO.model_copy(update={"pixels": HALF_PIXELS}), (real_data,)) is None
