"""The reader of scikit-learn's handwritten digits."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitkd_bench.contracts import KnownClass, Part
from vitkd_bench.pipeline.images import PixelImages
from vitkd_bench.pipeline.selection import hash_order
from vitkd_bench.spec import Dataset, DatasetSettings, WorldError

VAL, TEST = 0.15, 0.25
_SPLIT_SEED = 0


class DigitsReader:
    """Splits the 1,797 digits, class by class, in the order of a hash of their ids (`digits/0000` ...)."""

    def classes(
        self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]
    ) -> tuple[KnownClass, ...]:
        """List the ten classes."""
        return tuple(KnownClass(info, info.name) for info in facts.classes or ())

    def parts(self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]) -> dict[str, Part]:
        """Give train, val and test, each in the order of the file; (N, 1, 8, 8)."""
        pixels, digits = load_digits()
        names = [f"digits/{i:04d}" for i in range(len(digits))]
        places: dict[str, list[int]] = {"train": [], "val": [], "test": []}
        for digit in range(10):
            for split, part in _split([names[i] for i in np.flatnonzero(digits == digit)]).items():
                places[split] += [int(i.removeprefix("digits/")) for i in part]
        return {split: _part(pixels, digits, names, sorted(at)) for split, at in places.items()}


READER = DigitsReader()


def load_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read the digits from scikit-learn's own file: images (1797, 8, 8), 0..16 made 0..255, and digits 0..9.

    The file and not `sklearn.datasets`: importing that takes longer than training for an epoch.

    Raises:
        WorldError: scikit-learn is not installed, or keeps its digits elsewhere.
    """
    found = importlib.util.find_spec("sklearn")
    path = Path(found.origin or "").parent / "datasets" / "data" / "digits.csv.gz" if found else None
    if path is None or not path.is_file():
        raise WorldError(
            "data set 'digits': scikit-learn's digits.csv.gz is missing: pip install scikit-learn"
        )
    with gzip.open(path, "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.int64)
    return np.rint(table[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8), table[:, 64]


def _split(ids: list[str]) -> dict[str, list[str]]:
    shuffled = hash_order(ids, "digits", _SPLIT_SEED)
    val, test = round(len(ids) * VAL), round(len(ids) * TEST)
    return {
        "test": shuffled[:test],
        "val": shuffled[test : test + val],
        "train": sorted(shuffled[test + val :]),
    }


def _part(pixels: NDArray[np.uint8], digits: NDArray[np.int64], names: list[str], at: list[int]) -> Part:
    images = PixelImages(pixels[at][:, None], "scikit-learn's digits.csv.gz")
    return Part(images, digits[at], tuple(names[i] for i in at))
