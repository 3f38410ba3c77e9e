"""Images in a column of arrow or parquet files, as Hugging Face's datasets library stores them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitkd_bench.contracts import Images
from vitkd_bench.pipeline.images import ArchiveImages
from vitkd_bench.spec import WorldError


@dataclass(frozen=True, slots=True)
class Column:
    """What one file holds: images, not decoded, their labels (N,) and the names of the classes."""

    images: Images
    labels: NDArray[np.int64]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ParquetImages:
    """Images of a parquet file; a group of rows is unpacked at a time, and the last ones are kept."""

    path: Path
    column: str
    starts: NDArray[np.int64]  # (groups + 1,), first row of each group

    def __len__(self) -> int:
        """Count the rows."""
        return int(self.starts[-1])

    def read(self, index: int) -> bytes:
        """Read the bytes of one row's image."""
        group = int(np.searchsorted(self.starts, index, side="right")) - 1
        found = _group(self.path, self.column, group)[index - int(self.starts[group])]
        if not isinstance(found, bytes):
            raise WorldError(f"{self.place(index)}: no bytes of an image are stored")
        return found

    def place(self, index: int) -> str:
        """Give the file and the row."""
        return f"{self.path}, row {index}"


def read_parquet(path: Path, image: str, label: str) -> Column:
    """Find the images of a parquet file, and read its labels.

    Raises:
        WorldError: it is none, is damaged, or lacks the columns.
    """
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = _class_names(file.schema_arrow, image, label, path)
            groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            labels = _labels(file.read(columns=[label]).column(label), len(names), path)
    except WorldError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged file raises whatever it leads pyarrow to
        raise WorldError(f"{path}: not a readable parquet file: {_said(error)}") from None
    starts = np.cumsum([0, *groups], dtype=np.int64)
    if len(labels) != starts[-1]:
        raise WorldError(f"{path}: {len(labels)} labels for {starts[-1]} rows")
    return Column(ParquetImages(path, image, starts), labels, names)


def read_arrow(path: Path, image: str, label: str) -> Column:
    """Find the images of an arrow stream by their places in the file, and read its labels.

    Raises:
        WorldError: it is none, is damaged, packed, or lacks the columns.
    """
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source:
            whole = source.read_buffer()
            table = pa.ipc.open_stream(whole).read_all()
            names = _class_names(table.schema, image, label, path)
            spans = [_spans(chunk, whole.address, path) for chunk in table.column(image).chunks]
            labels = _labels(table.column(label), len(names), path)
    except WorldError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged file raises whatever it leads pyarrow to
        raise WorldError(f"{path}: not a readable arrow file: {_said(error)}") from None
    at = np.concatenate([np.empty((0, 2), dtype=np.int64), *spans])
    rows = tuple(f"row {i}" for i in range(len(at)))
    return Column(ArchiveImages(path, rows, at), labels, names)


@lru_cache(maxsize=8)
def _group(path: Path, column: str, group: int) -> list[Any]:
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            rows = file.read_row_group(group, columns=[f"{column}.bytes"]).column(column).to_pylist()
    except Exception as error:  # noqa: BLE001 - a damaged file raises whatever it leads pyarrow to
        raise WorldError(f"{path}: rows cannot be read: {_said(error)}") from None
    return [row.get("bytes") if isinstance(row, dict) else None for row in rows]


def _spans(chunk: Any, start: int, path: Path) -> NDArray[np.int64]:
    """Give offset and size in the file of each row's bytes (N, 2)."""
    chunk.validate(full=True)
    data = chunk.field("bytes")
    if data.null_count or chunk.null_count:
        raise WorldError(f"{path}: a row has no bytes of an image: save the set with its images in it")
    wide = "large" in str(data.type)
    offsets = np.frombuffer(data.buffers()[1], dtype=np.int64 if wide else np.int32)
    offsets = offsets[data.offset : data.offset + len(data) + 1].astype(np.int64)
    base = data.buffers()[2].address - start if data.buffers()[2] is not None else 0
    spans = np.stack([base + offsets[:-1], np.diff(offsets)], axis=1)
    size = path.stat().st_size
    if len(spans) and not (spans.min() >= 0 and int(spans.sum(axis=1).max()) <= size):
        raise WorldError(f"{path}: images are packed, or lie outside the file; save the set anew")
    return spans


def _class_names(schema: Any, image: str, label: str, path: Path) -> tuple[str, ...]:
    """Read the class names that the datasets library writes into a file's schema."""
    for column in (image, label):
        if column not in schema.names:
            known = ", ".join(schema.names)
            raise WorldError(f"{path}: no column {column!r}; it has {known}: name it by `image` and `label`")
    kind = str(schema.field(image).type)
    if not kind.startswith("struct<") or "bytes: " not in kind:
        raise WorldError(f"{path}: column {image!r} holds no images but {kind[:60]}")
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        raise WorldError(f"{path}: column {label!r} has no class names: make it a ClassLabel") from None
    if not isinstance(names, list) or len(names) < 2 or not all(isinstance(n, str) and n for n in names):
        raise WorldError(f"{path}: column {label!r}: at least two class names are needed")
    if len(set(names)) != len(names):
        raise WorldError(f"{path}: column {label!r}: a class name stands twice")
    return tuple(names)


def _labels(column: Any, classes: int, path: Path) -> NDArray[np.int64]:
    rows = column.to_pylist()
    for row, found in enumerate(rows):
        if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found < classes:
            raise WorldError(f"{path}, row {row}: label {found!r:.40} is none of 0 to {classes - 1}")
    return np.array(rows, dtype=np.int64)


def _said(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
