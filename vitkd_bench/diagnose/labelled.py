"""Images with labels, as a check of a teacher needs them: few, encoded, cut to any network's size."""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from timm.data import ImageNetInfo

from vitkd_bench.contracts import logits_of
from vitkd_bench.pipeline.class_list import read_classes
from vitkd_bench.pipeline.decode import decode
from vitkd_bench.pipeline.tree import ARCHIVES, open_tree
from vitkd_bench.spec import BadInputError, ClassInfo, Head, WorldError, content_hash, nearest

CLASSES = "classes.json"
INSIDE = ("images.tar", "images", "val.tar.xz", "val.tar", "val")
"""What is looked for in a folder that holds a `classes.json`, in this order."""

_Member = tuple[int, str]


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """Encoded images of one set.

    `labels` (N,) are positions in `classes`, of which not all need have an image; `label_space` is the space
    in which that position counts. `name` is that of the folder or tar and of what holds it. `digest` (16
    hexadecimal digits) changes with any byte or label.
    """

    name: str
    files: tuple[bytes, ...]
    labels: NDArray[np.int64]
    classes: tuple[ClassInfo, ...]
    label_space: str

    def __len__(self) -> int:
        """Count the images."""
        return len(self.files)

    @property
    def digest(self) -> str:
        """Hash of the images in their order, their labels and the classes."""
        hashes = [hashlib.sha256(file).hexdigest() for file in self.files]
        return content_hash([hashes, self.labels.tolist(), [c.plain() for c in self.classes]])

    def logits_of(self, head: Head) -> NDArray[np.int64] | None:
        """Find the logit of each class, (classes,); None if the head does not know one of them."""
        found = logits_of(head, self.classes, self.label_space)
        return None if found is None else np.array(found, dtype=np.int64)

    def smallest_class(self) -> int:
        """Images of the class that has fewest, among those that have any."""
        counts = np.bincount(self.labels)
        return int(counts[counts > 0].min())

    def cut(
        self,
        side: int,
        crop: float,
        channels: int = 3,
        interpolation: Literal["bicubic", "bilinear"] = "bicubic",
    ) -> NDArray[np.uint8]:
        """Bring all images to (N, channels, side, side) as an evaluation does.

        The shorter side becomes `floor(side / crop)` pixels, the middle is kept. An image whose shorter side
        is below `side` is enlarged whole: a crop would throw away pixels of which there are few.
        """
        cut = [_cut(decode(f, self.name, None), side, crop, interpolation) for f in self.files]
        images = np.stack(cut).transpose(0, 3, 1, 2)
        if channels == 1:
            grey = images.astype(np.float32).mean(axis=1, keepdims=True)
            images = np.rint(grey).astype(np.uint8)
        return np.ascontiguousarray(images)


def _cut(image: NDArray[np.uint8], side: int, crop: float, interpolation: str) -> NDArray[np.uint8]:
    method = Image.Resampling.BICUBIC if interpolation == "bicubic" else Image.Resampling.BILINEAR
    picture = Image.fromarray(image.transpose(1, 2, 0))
    width, height = picture.size
    short = min(width, height)
    goal = side if short < side else math.floor(side / crop)
    across, down = (goal if length == short else int(goal * length / short) for length in (width, height))
    resized = picture.resize((across, down), method)
    left, top = round((across - side) / 2), round((down - side) / 2)
    return np.asarray(resized.crop((left, top, left + side, top + side)))


def read_labelled(path: Path, limit: int | None = None, per_class: int = 1) -> LabelledImages:
    """Read images and labels from a folder or tar.

    The layout is `class/file`, with a `classes.json` beside it where classes have names or indices in other
    label spaces (`datasets.folder`), or flat files under a `classes.json` with `index` and `file` a row; rows
    that have a `wnid` are of ImageNet-1k unless the file says `{"label_space": ..., "classes": [...]}`.
    Without a list, folders that are all called by a wnid are classes of ImageNet-1k; others have no place in
    a head. A folder that holds `classes.json` may hold the images as one of `INSIDE`.

    Args:
        path: the folder or tar.
        limit: at most so many images, of classes spread evenly over the list.
        per_class: images of a class before another class is taken, where the limit leaves a choice.

    Raises:
        WorldError: nothing there, or it cannot be read.
        BadInputError: another layout, or images that no class is known of.
    """
    images, classes = _places(path)
    rows = _rows(classes) if classes else None
    if rows is not None and all("file" in row for row in rows):
        return _flat(images, rows, _space_of(classes, rows), limit, per_class)
    tree = open_tree(images)
    folders = sorted(tree.folders)
    known = {c.key: c.info for c in read_classes(classes)} if classes else {}
    if classes and not set(folders) <= known.keys():
        raise BadInputError(
            f"{classes}: no class for folder {min(set(folders) - known.keys())!r} of {images}"
        )
    infos = tuple(known.values()) or _of_folders(folders)
    order = list(known) or folders
    members = [[(order.index(f), f"{f}/{file}") for file in tree.folders[f]] for f in folders]
    kept = _spread(members, limit, per_class)
    files = tuple(tree.read(name) for _, name in kept)
    space = f"{images.name}:{content_hash([c.plain() for c in infos])}"
    return LabelledImages(_told(images), files, _labels(kept), infos, space)


def _of_folders(folders: Sequence[str]) -> tuple[ClassInfo, ...]:
    """Take folders for classes; those called by a wnid of ImageNet-1k have its index there."""
    if not all(re.fullmatch(r"n\d{8}", name) for name in folders):
        return tuple(ClassInfo(name=name) for name in folders)
    index = {name: i for i, name in enumerate(ImageNetInfo("imagenet-1k").label_names())}
    return tuple(
        ClassInfo(name=name, indices={"imagenet1k": index[name]} if name in index else {}) for name in folders
    )


def _places(path: Path) -> tuple[Path, Path | None]:
    """Find the images and the list of classes."""
    if not path.exists():
        near = path.parent.is_dir() and path.parent.resolve() != Path(path.parent.resolve().anchor)
        beside = path.parent.iterdir() if near else ()  # what lies at the root is nobody's images
        there = [p.name for p in beside if p.is_dir() or p.name.endswith(ARCHIVES)]
        instead = nearest(path.name, there)
        raise WorldError(
            f"images {path}: no such folder or tar{instead}; such are imagenet_sample, tiny_imagenet100"
        )
    if path.is_dir() and (path / CLASSES).is_file():
        for name in INSIDE:
            if (path / name).exists():
                return path / name, path / CLASSES
        return path, path / CLASSES
    if not path.is_dir() and not path.name.endswith(ARCHIVES):
        raise BadInputError(f"images {path}: neither a folder nor one of {', '.join(ARCHIVES)}")
    listed = path.parent / CLASSES
    if path.is_dir() and not listed.is_file() and not any(part.is_dir() for part in path.iterdir()):
        raise BadInputError(
            f"images {path}: no folders of classes in it: lay files out as class/file, or put a {CLASSES} "
            'there that lists {"index": ..., "wnid": ..., "file": ...} of each'
        )
    return path, listed if listed.is_file() else None


def _rows(classes: Path) -> list[dict[str, Any]]:
    try:
        data = json.loads(classes.read_text(encoding="utf-8"))
    except OSError as error:
        raise WorldError(f"{classes}: {error.strerror}: the list of classes has to be readable") from None
    except ValueError as error:
        raise WorldError(
            f"{classes}: cannot be read as JSON ({error}): put the list of classes there again"
        ) from None
    rows = data.get("classes") if isinstance(data, dict) else data
    if not isinstance(rows, list) or not rows:
        raise BadInputError(f"{classes}: a list of classes is needed, or an object with one under 'classes'")
    return [row if isinstance(row, dict) else {"name": row} for row in rows]


def _space_of(classes: Path | None, rows: Sequence[dict[str, Any]]) -> str:
    data = json.loads(classes.read_text(encoding="utf-8")) if classes else None
    if isinstance(data, dict) and isinstance(data.get("label_space"), str):
        return str(data["label_space"])
    if all("wnid" in row for row in rows):
        return "imagenet1k"
    raise BadInputError(f"{classes}: say which label space 'index' counts in: label_space beside 'classes'")


def _flat(
    path: Path, rows: Sequence[dict[str, Any]], space: str, limit: int | None, per_class: int
) -> LabelledImages:
    for i, row in enumerate(rows):
        if not isinstance(row.get("index"), int) or not isinstance(row["file"], str):
            raise BadInputError(
                f"{path.parent / CLASSES}: row {i}: 'index' and 'file' are needed, got {row!r}"
            )
    indices = sorted({int(row["index"]) for row in rows})
    names = {int(row["index"]): str(row.get("name", row["index"])) for row in rows}
    infos = tuple(ClassInfo(name=names[i], indices={space: i}) for i in indices)
    members: list[list[_Member]] = [
        [(at, str(row["file"])) for row in rows if row["index"] == index] for at, index in enumerate(indices)
    ]
    kept = _spread(members, limit, per_class)
    with _opened(path) as read:
        files = tuple(read(name) for _, name in kept)
    whole = indices == list(range(len(indices)))
    return LabelledImages(
        _told(path), files, _labels(kept), infos, space if whole else f"{path.name}:{space}"
    )


@contextmanager
def _opened(path: Path) -> Iterator[Callable[[str], bytes]]:
    """Open a flat folder or tar; what it gives reads one file by name."""
    if path.is_dir():
        yield lambda name: _read(path, (path / name).read_bytes, name)
        return
    try:
        archive = tarfile.open(path)  # noqa: SIM115 - closed below
    except (OSError, EOFError, tarfile.TarError) as error:
        raise WorldError(f"{path}: not a readable tar ({error}): get it again") from None
    with archive:
        yield lambda name: _read(path, lambda: _member(archive, name), name)


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    opened = archive.extractfile(name)
    return opened.read() if opened else b""


def _read(path: Path, read: Callable[[], bytes], name: str) -> bytes:
    try:
        return read()
    except (OSError, EOFError, KeyError, tarfile.TarError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WorldError(
            f"{path}/{name}: cannot be read ({reason}): the list of classes has to name files that are there"
        ) from None


def _spread(members: Sequence[Sequence[_Member]], limit: int | None, per_class: int) -> list[_Member]:
    """Under a limit, take the first `per_class` of evenly spread classes, then the next of all, and so on."""
    count = sum(map(len, members))
    if limit is None or limit >= count:
        return [member for of_class in members for member in of_class]
    wanted = max(1, min(len(members), limit // per_class))
    chosen = [members[i * len(members) // wanted] for i in range(wanted)]
    deepest = max(map(len, chosen))
    turns = [of_class[turn] for turn in range(deepest) for of_class in chosen if turn < len(of_class)]
    return sorted(turns[:limit])


def _told(path: Path) -> str:
    """Name images in a verdict, which travels: without the folders of one machine."""
    return f"{path.parent.name}/{path.name}"


def _labels(kept: Sequence[_Member]) -> NDArray[np.int64]:
    return np.array([label for label, _ in kept], dtype=np.int64)


def encoded(images: NDArray[np.uint8]) -> tuple[bytes, ...]:
    """Write images (N, C, H, W) uint8 as PNG, without loss."""
    return tuple(_png(image) for image in images)


def _png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    picture = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()
