"""Files of a folder, a tar or a zip: the same names, the same bytes; and trees of them, `class/file`."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vitkd_bench.contracts import Images
from vitkd_bench.pipeline.images import ArchiveImages, ChosenImages, FolderImages
from vitkd_bench.pipeline.members import member_name
from vitkd_bench.pipeline.tar_index import indexed
from vitkd_bench.pipeline.zips import ZipImages
from vitkd_bench.spec import WorldError, nearest

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".zip")
UNPACKED_AT_MOST = 8 << 30
"""Bytes that a compressed tar may become in memory: more is a bomb, or wants to be unpacked once."""
_PIECE = 1 << 20  # bytes unpacked at a time
_BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError)


@dataclass(frozen=True, slots=True, eq=False)
class Files:
    """Plain files of a folder or an archive: `names` sorted, `images` in their order. `path` is the whole.

    `bare` are folders on disk in which there is nothing: classes that lost their images.
    """

    path: Path
    names: tuple[str, ...]
    images: Images
    bare: tuple[str, ...] = ()
    _at: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Number the names."""
        object.__setattr__(self, "_at", {name: i for i, name in enumerate(self.names)})

    def __contains__(self, name: object) -> bool:
        """Say whether there is a file of that name."""
        return name in self._at

    def read(self, name: str) -> bytes:
        """Read one file.

        Raises:
            WorldError: it is not there, or cannot be read.
        """
        if name not in self._at:
            raise WorldError(f"{self.path}: no file {name!r}{nearest(name, self.names)}")
        found = self.images.read(self._at[name])
        return found if isinstance(found, bytes) else found.tobytes()

    def chosen(self, names: Sequence[str]) -> ChosenImages:
        """Give some of the files, all of which are there, in the order of `names`."""
        return ChosenImages(self.images, np.array([self._at[name] for name in names], dtype=np.int64))

    def under(self, folder: str) -> Files:
        """Give the files below one of its folders, named from there on; none if there is no such folder."""
        start = f"{folder}/"
        below = [name for name in self.names if name.startswith(start)]
        bare = tuple(name.removeprefix(start) for name in self.bare if name.startswith(start))
        return Files(self.path, tuple(name.removeprefix(start) for name in below), self.chosen(below), bare)

    def without(self, names: Iterable[str]) -> Files:
        """Give all files but some."""
        left_out = set(names)
        stays = tuple(name for name in self.names if name not in left_out)
        return Files(self.path, stays, self.chosen(stays), self.bare) if left_out else self

    def tops(self) -> set[str]:
        """Give the names at the top: folders, and files that are in none."""
        return {name.partition("/")[0] for name in self.names}


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """Files laid out as `class/file`: `folders` is `{"n01443537": ("1.JPEG", ...)}`; empty ones are last."""

    files: Files
    folders: dict[str, tuple[str, ...]]

    @property
    def path(self) -> Path:
        """The folder or archive."""
        return self.files.path

    def read(self, name: str) -> bytes:
        """Read `class/file`."""
        return self.files.read(name)


def find(name: str, field: str, roots: tuple[Path, ...], dataset: str) -> Path:
    """Find the file or folder that a suite names: beside the roots, in their order.

    Raises:
        WorldError: it is under none of them.
    """
    for root in roots:
        path = root / name
        if path.exists():
            return path
    places = ", ".join(str(root) for root in roots) or "no folder at all"
    raise WorldError(
        f"data set {dataset!r}: {field}: no {name!r} in {places}; "
        "name the folder that holds it by --data-root or VITKD_DATA"
    )


def open_tree(path: Path) -> Tree:
    """Find the files of a folder or an archive that is laid out as `class/file`; see `open_files`.

    Raises:
        WorldError: as `open_files`; or a file that is not `class/file`.
    """
    return tree_of(open_files(path))


def tree_of(files: Files) -> Tree:
    """Take files for a tree of `class/file`.

    Raises:
        WorldError: a file that is laid out otherwise.
    """
    folders = _by_folder(files.path, files.names)
    return Tree(
        files, folders | {top: () for name in files.bare if (top := name.partition("/")[0]) not in folders}
    )


def open_files(path: Path) -> Files:
    """Find the plain files of a folder or an archive; a compressed one is unpacked in memory, never on disk.

    Names are relative, with `/`, unique, and stay inside; those with a part that begins with a dot are left
    out. In a folder on disk links to folders are followed, as parts of large data sets are often made of
    them; in an archive no link is.

    Raises:
        WorldError: unreadable, truncated, a member that is no plain file, leads outside or stands twice, two
            links to one folder; names it.
    """
    if path.is_dir():
        return _folder(path)
    if not path.name.endswith(ARCHIVES):
        raise WorldError(f"{path}: neither a folder nor one of {', '.join(ARCHIVES)}")
    if path.name.endswith(".zip"):
        return _zip(path)
    try:
        unpacked = _unpacked(path)
        with path.open("rb") if unpacked is None else io.BytesIO(unpacked) as stream:
            return _archive(path, stream, unpacked)
    except _BROKEN as error:
        raise WorldError(f"{path}: cannot be unpacked, is it truncated? {_said(error)}") from None


def _folder(path: Path) -> Files:
    names: list[str] = []
    bare: list[str] = []
    linked: set[Path] = set()
    try:
        for folder, inner, files in os.walk(path, onerror=_raise, followlinks=True):
            inner[:] = [name for name in inner if _shown(name)]
            for name in inner:
                _refuse_second_link(Path(folder, name), linked)
            start = "" if folder == str(path) else f"{Path(folder).relative_to(path).as_posix()}/"
            shown = [start + name for name in files if _shown(name)]
            names += shown
            bare += [start.rstrip("/")] if start and not inner and not shown else []
    except OSError as error:
        raise WorldError(f"{error.filename}: cannot be listed: {error.strerror or error}") from None
    names.sort()
    return Files(path, tuple(names), FolderImages(path, tuple(names)), tuple(sorted(bare)))


def _refuse_second_link(folder: Path, linked: set[Path]) -> None:
    """Hold that no two links lead to one folder: its images would stand twice, or the walk never end."""
    if not folder.is_symlink():
        return
    target = folder.resolve()
    if target in linked:
        raise WorldError(f"{folder}: a link to {target}, to which another link leads already")
    linked.add(target)


def _raise(error: OSError) -> None:
    raise error


def _zip(path: Path) -> Files:
    images = ZipImages.of(path)
    shown = tuple(name for name in images.names if _shown(name))
    every = Files(path, images.names, images)
    return every if len(shown) == len(every.names) else Files(path, shown, every.chosen(shown))


def _archive(path: Path, stream: BinaryIO, unpacked: bytes | None) -> Files:
    def walk() -> dict[str, tuple[int, int]]:
        return {name: span for name, span in member_spans(path, stream).items() if _shown(name)}

    names, at = indexed(path, walk)
    return Files(path, names, ArchiveImages(path, names, at, unpacked))


def member_spans(path: Path, stream: BinaryIO) -> dict[str, tuple[int, int]]:
    """Give offset and size of every plain file in an uncompressed tar; `path` is for errors.

    Raises:
        WorldError: unreadable, truncated, or a member that is not to be trusted; names it.
    """
    try:
        archive = tarfile.open(fileobj=stream, mode="r:")  # noqa: SIM115 - lives as long as its stream
        members = archive.getmembers()
    except _BROKEN as error:
        raise WorldError(f"{path}: not a readable tar: {_said(error)}") from None
    stream.seek(archive.offset)
    if stream.read(512).strip(b"\0") or not members or _ends_early(stream, members[-1]):
        raise WorldError(f"{path}: the archive ends early or holds nothing; fetch it again")
    spans: dict[str, tuple[int, int]] = {}
    for member in members:
        plain = (member.isreg() or member.isdir()) and not member.issparse()
        name = member_name(path, member.name, plain=plain)
        if member.isdir():
            continue
        if name in spans:
            raise WorldError(f"{path}: member {name!r} stands twice")
        spans[name] = member.offset_data, member.size
    return spans


def _unpacked(path: Path) -> bytes | None:
    if path.name.endswith((".gz", ".tgz")):
        with gzip.open(path) as packed:
            return _at_most(path, packed)
    if path.name.endswith(".xz"):
        with lzma.open(path) as packed:
            return _at_most(path, packed)
    return None


def _at_most(path: Path, packed: gzip.GzipFile | lzma.LZMAFile) -> bytes:
    found, remedy = io.BytesIO(), "unpack it once, into a folder or to a .tar"
    try:
        while piece := packed.read(_PIECE):
            if found.tell() + len(piece) > UNPACKED_AT_MOST:
                most = UNPACKED_AT_MOST >> 20
                raise WorldError(f"{path}: becomes more than {most} MiB when it is unpacked; {remedy}")
            found.write(piece)
    except MemoryError:
        raise WorldError(f"{path}: has no room in memory when it is unpacked; {remedy}") from None
    return found.getvalue()


def _ends_early(stream: BinaryIO, last: tarfile.TarInfo) -> bool:
    """Say whether the last member's data, or the block of zeros that has to follow it, is cut off."""
    end = last.offset_data + -(-last.size // 512) * 512
    return stream.seek(0, io.SEEK_END) < end + 512


def _shown(name: str) -> bool:
    return not any(part.startswith(".") for part in name.split("/"))


def _by_folder(path: Path, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    folders: dict[str, list[str]] = {}
    for name in names:
        parts = name.split("/")
        if len(parts) != 2:
            raise WorldError(f"{path}: {name!r} is not class/file, which is the layout that is needed here")
        folders.setdefault(parts[0], []).append(parts[1])
    return {folder: tuple(files) for folder, files in folders.items()}


def _said(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
