"""What a suite takes of a data set: val by share, long tails, and images that are left out by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitkd_bench.contracts import KnownClass, Part
from vitkd_bench.pipeline import Splits, open_splits, resolve_dataset
from vitkd_bench.pipeline.images import PixelImages
from vitkd_bench.pipeline.parts import choose
from vitkd_bench.pipeline.selection import drawn_counts
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import BadInputError, ClassInfo, DatasetSettings, Subset

FOLDER = {"train": "train", "test": "test"}


def opened(birds: Path, **settings: Any) -> Splits:
    """The birds under some settings."""
    given_ = {**FOLDER, "val": {"per_class": 3}, **settings}
    return open_splits(resolve_dataset(DATASETS.get("folder"), given_, (birds,)), (birds,), 8)


def part(counts: list[int], name: str) -> Part:
    """A part with so many images of each class."""
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    ids = tuple(f"{label}/{i}" for i, label in enumerate(labels.tolist()))
    return Part(PixelImages(np.zeros((len(labels), 1, 2, 2), np.uint8), "made"), labels, ids, f"{name}/")


def known(count: int) -> list[KnownClass]:
    """Classes by number."""
    return [KnownClass(ClassInfo(name=str(i)), str(i)) for i in range(count)]


@given(st.lists(st.integers(1, 40), min_size=2, max_size=6), st.floats(0.01, 0.99))
def test_a_share_is_carved_of_every_class(counts: list[int], share: float) -> None:
    """Val is the share of each class, rounded, at least one where there are two; train keeps the rest."""
    settings = DatasetSettings.parse({"val": {"share": share}})
    found = choose(
        {"train": part(counts, "train"), "test": part(counts, "test")},
        settings,
        known(len(counts)),
        range(len(counts)),
    ).parts
    held_out = np.bincount(found["val"].labels, minlength=len(counts))
    left = np.bincount(found["train"].labels, minlength=len(counts))
    assert (left + held_out).tolist() == counts
    assert min(left) >= 1
    for count, taken in zip(counts, held_out, strict=True):
        assert taken == min(max(1, round(count * share)), count - 1)
    assert not set(found["train"].ids) & set(found["val"].ids)


@given(st.integers(2, 30), st.integers(1, 500), st.floats(1.5, 300))
def test_a_long_tail_falls_by_its_factor(classes: int, most: int, factor: float) -> None:
    """The first class keeps all, the last a factor less, each no more than the one before; none is empty."""
    counts = drawn_counts([most] * classes, Subset(long_tail=factor))
    numbers = [count for count in counts if count is not None]
    assert len(numbers) == classes
    assert numbers[0] == most
    assert numbers[-1] == pytest.approx(max(1, most / factor), abs=1)
    assert numbers == sorted(numbers, reverse=True)
    assert min(numbers) >= 1


def test_the_long_tail_of_cifar_is_the_published_one() -> None:
    """CIFAR-10-LT at factor 100, of 5,000 images a class: 5000, 2997, ..., 50."""
    counts = drawn_counts([5000] * 10, Subset(long_tail=100))
    assert counts == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]


def test_a_long_tail_is_drawn_of_train_alone(birds: Path) -> None:
    """Val and test stay balanced and the same, and a longer tail is a part of a shorter one."""
    whole, short, long = (opened(birds, **s) for s in ({}, tail(3), tail(9)))
    assert whole.val.ids == short.val.ids == long.val.ids
    assert whole.test.ids == short.test.ids == long.test.ids
    assert np.bincount(short.train.labels).tolist() == [9, 5, 3]
    assert np.bincount(long.train.labels).tolist() == [9, 3, 1]
    assert set(long.train.ids) < set(short.train.ids) < set(whole.train.ids)


def test_a_long_tail_of_classes_that_differ_asks_for_a_number(birds: Path) -> None:
    """Its first class cannot be guessed; with a number, what a class lacks is told by that class."""
    for i in range(4):
        (birds / "train" / "crane" / f"{i}.png").unlink()
    with pytest.raises(BadInputError, match=r"long_tail: classes have 5 to 9 .* per_class says how many"):
        opened(birds, **tail(3))
    with pytest.raises(BadInputError, match=r"subset\.long_tail: 6 asked for, but class 'crane' has 5"):
        opened(birds, subset={"long_tail": 3, "per_class": 6})
    counts = np.bincount(opened(birds, subset={"long_tail": 2, "per_class": 4}).train.labels)
    assert counts.tolist() == [4, 2, 2]


def tail(factor: float) -> dict[str, Any]:
    """A subset with a long tail."""
    return {"subset": {"long_tail": factor}}


def test_images_are_skipped_by_name_and_counted(birds: Path) -> None:
    """What a list names is in no split, whichever it was in; an id that no image has is refused."""
    (birds / "skip.txt").write_text("train/crane/3.png\ntest/heron/0.png\n\n")
    found, whole = opened(birds, skip="skip.txt"), opened(birds)
    ids = {id_ for name in ("train", "val", "test") for id_ in found.split(name).ids}
    assert not ids & {"train/crane/3.png", "test/heron/0.png"}
    assert found.skipped == 2
    assert whole.skipped == 0
    assert found.split_hash != whole.split_hash
    (birds / "skip.txt").write_text("train/crane/33.png\n")
    with pytest.raises(BadInputError, match=r"skip: no image has the id 'train/crane/33\.png'; did you mean"):
        opened(birds, skip="skip.txt", subset={"classes": 2})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"val": {"per_class": 2, "share": 0.1}}, "per_class or share, one of the two"),
        ({"val": {}}, "per_class or share, one of the two"),
        ({"val": {"share": 1.0}}, "val.share"),
        ({"test": {"share": 1.5}}, r"^test\.share: Input should be less than 1, got 1\.5"),
        ({"test": {"shar": 0.5}}, r"^test\.shar: unknown field; did you mean 'share'"),
        ({"subset": {"long_tail": 1.0}}, "subset.long_tail"),
        ({"decode": "twice"}, "decode"),
    ],
)
def test_bad_settings_are_refused_by_field(birds: Path, settings: dict[str, Any], said: str) -> None:
    """A setting that says nothing, or two things, is refused when it is read."""
    with pytest.raises(BadInputError, match=said):
        opened(birds, **settings)
