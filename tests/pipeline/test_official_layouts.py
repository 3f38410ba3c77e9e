"""Small sets in exactly the official layouts: each is read as it comes, to the last label and byte."""

from pathlib import Path

import pytest

from tests.pipeline.layouts.every_layout import FORMS, LAYOUTS, write
from tests.pipeline.layouts.pictures import Written
from vitkd_bench.contracts import KnownClass, Part
from vitkd_bench.pipeline import open_splits, resolve_dataset
from vitkd_bench.pipeline.readers import reader_of
from vitkd_bench.registry import DATASETS


def read(name: str, root: Path, written: Written) -> tuple[tuple[KnownClass, ...], dict[str, Part]]:
    """What the data set's reader finds."""
    entry = DATASETS.get(name)
    settings = entry.settings.parse(written.settings)
    reader = reader_of(entry.facts)
    return reader.classes(entry.facts, settings, (root,)), reader.parts(entry.facts, settings, (root,))


def snapshot(root: Path) -> dict[str, int]:
    """Every file under a folder, with its size."""
    return {p.relative_to(root).as_posix(): p.stat().st_size for p in root.rglob("*") if p.is_file()}


def content(part: Part, index: int) -> bytes:
    """The bytes of an image, or of its pixels."""
    found = part.images.read(index)
    return found if isinstance(found, bytes) else found.tobytes()


def test_every_data_set_has_layouts() -> None:
    """Whoever puts a data set on the shelf writes its layouts here; the digits come in a wheel."""
    assert {*LAYOUTS, "digits"} == set(DATASETS.names())


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_layout_is_read_as_it_comes(name: str, form: str, tmp_path: Path) -> None:
    """Ids, labels and bytes are those that were written, sorted by class; nothing is written beside them."""
    written = write(name, form, tmp_path)
    before = snapshot(tmp_path)
    known, parts = read(name, tmp_path, written)
    assert set(parts) == set(written.parts)
    for name_, part in parts.items():
        wanted = written.parts[name_]
        ids = [f"{part.prefix}{id_}" for id_ in part.ids]
        assert sorted(ids) == sorted(wanted)
        assert [known[label].key for label in part.labels] == [wanted[id_][0] for id_ in ids]
        assert [content(part, i) for i in range(len(ids))] == [wanted[id_][1] for id_ in ids]
        if not name.startswith("cifar"):
            assert part.labels.tolist() == sorted(part.labels.tolist())
        assert all(str(tmp_path) in part.images.place(i) for i in range(len(ids)))
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_every_form_gives_the_same_split(name: str, tmp_path: Path) -> None:
    """Unpacked or as downloaded, the splits have one hash where the images are the same ones."""
    hashes = set()
    for form in LAYOUTS[name]:
        root = tmp_path / form
        root.mkdir()
        written = write(name, form, root)
        if name in {"folder", "shift_folder", "webdataset"} or form == "apart":
            continue  # forms of these hold other settings, hence other sets
        hashes.add(
            open_splits(resolve_dataset(DATASETS.get(name), written.settings, (root,)), (root,), 8).split_hash
        )
    assert len(hashes) <= 1
