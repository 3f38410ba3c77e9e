"""Small sets of one's own: folders, shards, what Hugging Face's library writes, and shift sets."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.pipeline.layouts.pictures import (
    Samples,
    Written,
    below,
    named,
    picture,
    tar_of,
    write_files,
    zip_of,
)

KEYS = ("crane", "drake", "heron", "ibis", "jay", "kite")


def class_folders(root: Path) -> Written:
    """Folders of train and test."""
    parts = _by_class()
    for part, samples in parts.items():
        write_files(root, {f"{part}/{name}": data for name, (_, data) in samples.items()})
    return Written({"train": "train", "test": "test", "val": {"per_class": 2}}, _whole(parts))


def class_archives(root: Path) -> Written:
    """A tar of train and a zip of test."""
    parts = _by_class()
    write_files(
        root,
        {
            "train.tar.xz": tar_of({n: data for n, (_, data) in parts["train"].items()}, "w:xz"),
            "test.zip": zip_of({n: data for n, (_, data) in parts["test"].items()}),
        },
    )
    return Written({"train": "train.tar.xz", "test": "test.zip", "val": {"per_class": 2}}, _whole(parts))


def domains(root: Path) -> Written:
    """One archive of domain/class/file, of which train takes one domain and test another."""
    parts = _by_class()
    files = below("photo", {n: data for n, (_, data) in parts["train"].items()})
    files |= below("sketch", {n: data for n, (_, data) in parts["test"].items()})
    write_files(root, {"domains.tar": tar_of(files)})
    settings = {
        "train": "domains.tar",
        "test": "domains.tar",
        "within": {"train": "photo", "test": "sketch"},
        "val": {"per_class": 2},
    }
    return Written(settings, _whole(parts))


def shift_archive(root: Path) -> Written:
    """A shift set: one domain of an archive, each class with its places elsewhere."""
    test = _by_class()["test"]
    files = below("sketch", {n: data for n, (_, data) in test.items()}) | {"photo/crane/1.jpg": b"another"}
    rows = {
        "classes": list(KEYS),
        "imagenet1k_indices": {key: [10 * i, 10 * i + 1] for i, key in enumerate(KEYS)},
    }
    write_files(root, {"domains.tar": tar_of(files), "classes.json": json.dumps(rows).encode()})
    settings = {"test": "domains.tar", "within": "sketch", "classes": "classes.json"}
    return Written(settings, {"test": {f"test/{n}": of for n, of in test.items()}})


def shift_folders(root: Path) -> Written:
    """A shift set in folders, which are its classes."""
    test = _by_class()["test"]
    write_files(root / "sketches", {n: data for n, (_, data) in test.items()})
    return Written({"test": "sketches"}, {"test": {f"test/{n}": of for n, of in test.items()}})


def shards_of_numbers(root: Path) -> Written:
    """Three shards with labels as numbers in .cls, and a list of classes."""
    written = _shards(root, lambda key: ("cls", str(KEYS.index(key))))
    write_files(root, {"classes.json": json.dumps(list(KEYS)).encode()})
    return Written({**written.settings, "classes": "classes.json"}, written.parts)


def shards_of_json(root: Path) -> Written:
    """Three shards with labels in .json, by name; the classes are those that stand there."""
    written = _shards(root, lambda key: ("json", json.dumps({"species": key, "width": 12})))
    return Written({**written.settings, "label": "species"}, written.parts)


def _shards(root: Path, label: Any) -> Written:
    parts: dict[str, Samples] = {"train": {}, "test": {}}
    pictures = {"train": named(KEYS, 6, "{n:06d}"), "test": named(KEYS, 2, "{n:06d}")}
    shards: dict[str, dict[str, bytes]] = {}
    for part, count in (("train", 3), ("test", 1)):
        for i, (key, (name, data)) in enumerate(pictures[part].items()):
            shard = f"{part}-{i % count:03d}.tar"
            kind, text = label(name)
            shards.setdefault(shard, {}).update({f"{key}.jpg": data, f"{key}.{kind}": text.encode()})
            parts[part][f"{part}/{shard}/{key}.jpg"] = name, data
    write_files(root / "shards", {name: tar_of(files) for name, files in shards.items()})
    settings = {
        "train": "shards/train-{000..002}.tar",
        "test": "shards/test-000.tar",
        "val": {"per_class": 2},
    }
    return Written(settings, parts)


def parquet_set(root: Path) -> Written:
    """A clone of a repository: parquet files in `data`, train in two of them, few rows a group."""
    tables, written = _tables()
    home = root / "birds" / "data"
    home.mkdir(parents=True)
    half = tables["train"].num_rows // 2
    for i, table in enumerate((tables["train"][:half], tables["train"][half:])):
        pq.write_table(table, home / f"train-{i:05d}-of-00002.parquet", row_group_size=5)
    pq.write_table(tables["test"], home / "test-00000-of-00001.parquet", row_group_size=5)
    return written


def saved_set(root: Path) -> Written:
    """What `DatasetDict.save_to_disk` writes: a folder of arrow files a split, and what it says of them."""
    tables, written = _tables()
    for part, table in tables.items():
        home = root / "birds" / part
        home.mkdir(parents=True)
        half = table.num_rows // 2
        pieces = (table[:half], table[half:])
        for i, piece in enumerate(pieces):
            with pa.ipc.new_stream(home / f"data-{i:05d}-of-00002.arrow", table.schema) as stream:
                stream.write_table(piece, max_chunksize=7)
        (home / "state.json").write_text(json.dumps({"_data_files": [], "_split": part}))
    (root / "birds" / "dataset_dict.json").write_text(json.dumps({"splits": list(tables)}))
    return written


def _tables() -> tuple[dict[str, Any], Written]:
    """Tables as the datasets library makes them, and what they hold."""
    parts: dict[str, Samples] = {"train": {}, "test": {}}
    tables = {}
    features = {"image": {"_type": "Image"}, "label": {"names": list(KEYS), "_type": "ClassLabel"}}
    kind = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    schema = pa.schema([pa.field("image", kind), pa.field("label", pa.int64())], metadata=metadata)
    for part, count in (("train", 6), ("test", 2)):
        rows = [(key, picture(f"{part}{key}{k}")) for k in range(count) for key in reversed(KEYS)]
        images = [{"bytes": data, "path": f"{i}.jpg"} for i, (_, data) in enumerate(rows)]
        labels = [KEYS.index(key) for key, _ in rows]
        tables[part] = pa.table([pa.array(images, kind), pa.array(labels, pa.int64())], schema=schema)
        parts[part] = {f"{part}/{i:07d}": row for i, row in enumerate(rows)}
    return tables, Written({"path": "birds", "val": {"per_class": 2}}, parts)


def _by_class() -> dict[str, Samples]:
    return {
        "train": named(KEYS, 6, "{key}/{k}.jpg"),
        "test": named(KEYS, 2, "{key}/t{k}.jpg"),
    }


def _whole(parts: dict[str, Samples]) -> dict[str, Samples]:
    return {part: {f"{part}/{n}": of for n, of in samples.items()} for part, samples in parts.items()}
