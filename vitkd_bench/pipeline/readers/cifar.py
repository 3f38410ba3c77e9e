"""The reader of CIFAR-10 and CIFAR-100: Python's pickles, in their folder or archive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitkd_bench.contracts import KnownClass, Part
from vitkd_bench.pipeline.images import PixelImages
from vitkd_bench.pipeline.pickles import BytesArray, parse_pickle
from vitkd_bench.pipeline.places import places_of
from vitkd_bench.pipeline.tree import Files, open_files
from vitkd_bench.spec import Dataset, DatasetSettings, WorldError, alternatives

SIDE = 32


@dataclass(frozen=True, slots=True)
class _Form:
    """Names of the files and fields of one of the two sets."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    meta: str
    names: str
    labels: str


_FORMS = {
    "cifar10": _Form(
        tuple(f"data_batch_{i}" for i in range(1, 6)),
        ("test_batch",),
        "batches.meta",
        "label_names",
        "labels",
    ),
    "cifar100": _Form(("train",), ("test",), "meta", "fine_label_names", "fine_labels"),
}


class CifarReader:
    """Reads the published train and test; ids are `data_batch_1/0000` ..., the file and the row in it."""

    def classes(
        self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]
    ) -> tuple[KnownClass, ...]:
        """List the classes, once the files are there."""
        _find(facts, settings, roots)
        return tuple(KnownClass(info, info.name) for info in facts.classes or ())

    def parts(self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]) -> dict[str, Part]:
        """Give train and test, in the order of the files; images are (N, 3, 32, 32)."""
        form = _FORMS[facts.name]
        path = _find(facts, settings, roots)
        files = open_files(path)
        if path.is_file():
            files = files.under(alternatives(facts.files[1])[0])
        names = [info.name for info in facts.classes or ()]
        _check_names(files, form, names)
        return {
            "train": _part(files, form.train, form.labels, len(names)),
            "test": _part(files, form.test, form.labels, len(names)),
        }


READER = CifarReader()


def _find(facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]) -> Path:
    """Find the folder with the pickles, or the archive."""
    form = _FORMS[facts.name]

    def has_pickles(folder: Path) -> bool:
        return (folder / form.meta).is_file() and (folder / form.test[0]).is_file()

    places = places_of(facts, settings, roots, has_pickles)
    home = next((folder for folder in places.folders if has_pickles(folder)), None)
    return home or places.find(*alternatives(facts.files[1]))


def _check_names(files: Files, form: _Form, names: list[str]) -> None:
    where = f"{files.path}/{form.meta}"
    found = parse_pickle(files.read(form.meta), where).get(form.names)
    listed = found if isinstance(found, list) else []
    said = [name.decode("latin1") if isinstance(name, bytes) else name for name in listed]
    if said != names:
        raise WorldError(f"{where}: {form.names}: the {len(names)} classes in their order are needed")


def _part(files: Files, batches: tuple[str, ...], field: str, classes: int) -> Part:
    read = [_batch(files, name, field, classes) for name in batches]
    pixels = np.concatenate([pixels for pixels, _ in read])
    ids = tuple(
        f"{name}/{i:04d}" for name, (one, _) in zip(batches, read, strict=True) for i in range(len(one))
    )
    return Part(PixelImages(pixels, str(files.path)), np.concatenate([labels for _, labels in read]), ids)


def _batch(files: Files, name: str, field: str, classes: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    where = f"{files.path}/{name}"
    found = parse_pickle(files.read(name), where)
    data, labels = found.get("data"), found.get(field)
    pixels = data.array if isinstance(data, BytesArray) else None
    if pixels is None or pixels.ndim != 2 or pixels.shape[1] != 3 * SIDE * SIDE:
        raise WorldError(f"{where}: data: an array (N, {3 * SIDE * SIDE}) of bytes is needed")
    if not isinstance(labels, list) or len(labels) != len(pixels):
        raise WorldError(f"{where}: {field}: a list of {len(pixels)} numbers is needed")
    wrong = [n for n in labels if not isinstance(n, int) or isinstance(n, bool) or not 0 <= n < classes]
    if wrong:
        raise WorldError(f"{where}: {field}: {str(wrong[0])[:40]} is none of 0 to {classes - 1}")
    return pixels.reshape(-1, 3, SIDE, SIDE), np.array(labels, dtype=np.int64)
