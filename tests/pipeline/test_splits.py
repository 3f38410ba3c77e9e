"""Splits: what a reader gives is checked, kept once and read-only."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from vitkd_bench.contracts import KnownClass, Part
from vitkd_bench.pipeline import Splits, open_splits, resolve_dataset
from vitkd_bench.pipeline.decoded import Decoded
from vitkd_bench.pipeline.images import PixelImages
from vitkd_bench.pipeline.readers import reader_of
from vitkd_bench.registry import DATASETS, load_extension
from vitkd_bench.spec import BadInputError, ClassInfo, Dataset, PixelStats, WorldError

EXTENSION = """
import numpy as np
from vitkd_bench.contracts import KnownClass, Part
from vitkd_bench.pipeline.images import PixelImages
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import ClassInfo, Dataset, PixelStats

CLASSES = (ClassInfo(name="dark"), ClassInfo(name="bright"))

class Reader:
    def classes(self, facts, settings, roots):
        return tuple(KnownClass(info, info.name) for info in CLASSES)

    def parts(self, facts, settings, roots):
        def part(name, count):
            labels = np.arange(count) % 2
            shade = np.array([50, 150], np.uint8)[labels]
            images = np.broadcast_to(shade[:, None, None, None], (count, 1, 4, 4)).copy()
            return Part(PixelImages(images, "made"), labels, tuple(map(str, range(count))), f"{name}/")
        return {"train": part("train", 6), "val": part("val", 2), "test": part("test", 4)}

READER = Reader()
DATASETS.register(Dataset(
    name="my_shades", title="Two shades", source="made here", licence="CC0", reader=f"{__name__}:READER",
    channels=1, image_size=4, pixels=PixelStats(mean=(0.4,), std=(0.2,)), classes=CLASSES,
    label_space="shades", split_rule="none", shifts=("invert",),
))
"""


@pytest.fixture
def own_entry(tmp_path: Path) -> Iterator[None]:
    """A data set of one's own, in a file that a suite names; taken off the shelf afterwards."""
    path = tmp_path / "mine.py"
    path.write_text(EXTENSION)
    load_extension(path)
    yield
    del DATASETS._entries["my_shades"], DATASETS._origin["my_shades"]


@pytest.mark.usefixtures("own_entry")
def test_data_set_of_ones_own_brings_its_reader() -> None:
    """One file with facts and reader is enough: it is resolved, opened and shifted as ours are."""
    dataset = resolve_dataset(DATASETS.get("my_shades"), {}, ())
    splits = open_splits(dataset, ())
    assert (len(splits.train), len(splits.val), len(splits.test)) == (6, 2, 4)
    assert splits.split("my_shades/invert").images[0, 0, 0, 0] == 205


def test_unknown_reader_is_refused() -> None:
    """A reader that does not exist is refused by the data set's name."""
    facts = DATASETS.get("digits").facts
    with pytest.raises(BadInputError, match=r"'digits': unknown reader 'digts'; did you mean 'digits'"):
        reader_of(facts.model_copy(update={"reader": "digts"}))
    with pytest.raises(BadInputError, match="no_such_module"):
        reader_of(facts.model_copy(update={"reader": "no_such_module:READER"}))


def test_splits_are_opened_once_and_cannot_be_written_to(digits: Splits) -> None:
    """A second call gives the same arrays, so none may change them."""
    first, again = (open_splits(digits.dataset, ()) for _ in range(2))
    assert first is again
    assert open_splits(digits.dataset, (), 16) is not first
    for part in (first.train, first.val, first.test):
        for array in (part.images, part.labels):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0


def made(name: str, labels: list[int], ids: list[str], images: np.ndarray | None = None) -> Part:
    """One part as a reader might give it."""
    pixels = np.zeros((len(labels), 1, 2, 2), np.uint8) if images is None else images
    return Part(PixelImages(pixels, "made"), np.array(labels, dtype=np.int64), tuple(ids), f"{name}/")


def good() -> dict[str, Part]:
    """Parts that keep the contract."""
    return {name: made(name, [0, 1], ["a", "b"]) for name in ("train", "val", "test")}


BROKEN: dict[str, tuple[Callable[[], dict[str, Part]], str]] = {
    "id in two parts": (
        lambda: {**good(), "val": made("train", [0, 1], ["a", "c"])},
        "val: an id stands twice: 'train/a'",
    ),
    "id twice in one": (
        lambda: {**good(), "test": made("test", [0, 1], ["a", "a"])},
        "test: an id stands twice",
    ),
    "class missing": (
        lambda: {**good(), "val": made("val", [0, 0], ["a", "b"])},
        r"val: class 1 \(bright\) has no",
    ),
    "class missing in train": (
        lambda: {**good(), "train": made("train", [1, 1], ["a", "b"])},
        r"train: class 'dark' has no image",
    ),
    "label too large": (
        lambda: {**good(), "test": made("test", [0, 1, 2], list("abc"))},
        "made, image 2: class 2 is none of 2",
    ),
    "negative label": (
        lambda: {**good(), "test": made("test", [0, 1, -1], list("abc"))},
        "made, image 2: class -1 is none of 2",
    ),
    "float images": (
        lambda: {**good(), "train": made("train", [0, 1], ["a", "b"], np.zeros((2, 1, 2, 2)))},
        r"made, image 0: pixels \(1, 2, 2\) float64",
    ),
    "no test": (lambda: {k: v for k, v in good().items() if k != "test"}, "gives no test"),
    "too few images": (
        lambda: {**good(), "train": made("train", [0, 1], ["a", "b"], np.zeros((1, 1, 2, 2), np.uint8))},
        "train: 1 images, 2 labels of int64 and 2 ids",
    ),
}


BROKEN["other size"] = (
    lambda: {**good(), "test": made("test", [0, 1], ["a", "b"], np.zeros((2, 1, 3, 3), np.uint8))},
    r"test: images \(1, 3, 3\) uint8, train's are \(1, 2, 2\)",
)
BROKEN["other channels"] = (
    lambda: {n: made(n, [0, 1], ["a", "b"], np.zeros((2, 3, 2, 2), np.uint8)) for n in good()},
    r"train: images \(3, 2, 2\) uint8, .*asked for \(1, 2, 2\)",
)


class MadeReader:
    """A reader that gives what a test wants."""

    made: dict[str, Part]

    def classes(self, *_: object) -> tuple[KnownClass, ...]:
        """Two classes."""
        return tuple(KnownClass(ClassInfo(name=name), name) for name in ("dark", "bright"))

    def parts(self, *_: object) -> dict[str, Part]:
        """Parts as set."""
        return self.made


@pytest.mark.parametrize("case", ["good", *BROKEN])
def test_a_reader_is_held_to_its_contract(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaking ids, missing classes and wrong arrays of a reader are refused; a good reader passes."""
    make, said = BROKEN.get(case, (good, ""))
    reader = MadeReader()
    reader.made = make()
    name = "made_" + case.replace(" ", "_")
    facts = Dataset(
        name=name, title="", source="", licence="", reader="made", channels=1,
        pixels=PixelStats(mean=(0.5,), std=(0.5,)), split_rule="", label_space="made",
    )  # fmt: skip
    DATASETS.register(facts)
    for module in ("resolve", "splits"):
        monkeypatch.setattr(f"vitkd_bench.pipeline.{module}.reader_of", lambda _: reader)
    try:
        dataset = resolve_dataset(DATASETS.get(name), {}, ())
        if case == "good":
            assert len(open_splits(dataset, ()).train) == 2
            return
        with pytest.raises(WorldError, match=said) as caught:
            open_splits(dataset, ())
        assert name in str(caught.value) or "made, image 0" in str(caught.value)
    finally:
        del DATASETS._entries[name], DATASETS._origin[name]


def test_split_hash_follows_ids_labels_and_order(digits: Splits) -> None:
    """The hash changes with a label, an id, a split's limits or the order of train."""
    train = digits.train

    def hash_with(part: Decoded) -> str:
        return Splits(digits.dataset, {**digits.parts, "train": part}).split_hash

    other_label = train.labels.copy()
    other_label[5] += 1
    variants = {
        digits.split_hash,
        hash_with(Decoded(train.images, other_label, train.ids)),
        hash_with(Decoded(train.images, train.labels, ("x", *train.ids[1:]))),
        hash_with(Decoded(train.images[::-1], train.labels[::-1], train.ids[::-1])),
        hash_with(Decoded(train.images[1:], train.labels[1:], train.ids[1:])),
    }
    assert len(variants) == 5
    assert hash_with(Decoded(train.images[:, :, ::-1], train.labels, train.ids)) == digits.split_hash
