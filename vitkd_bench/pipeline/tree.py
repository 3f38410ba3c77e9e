"""A tree of files, `class/file`, read from a folder or from a tar: the same names, the same bytes."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from vitkd_bench.spec import WorldError

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz")
_BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError)


@dataclass(frozen=True, slots=True)
class Tree:
    """Files by folder, `{"n01443537": ("1.JPEG", ...)}`, sorted, and how one is read. `path` is the whole."""

    path: Path
    folders: dict[str, tuple[str, ...]]
    read: Callable[[str], bytes]


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


@contextmanager
def open_tree(path: Path) -> Iterator[Tree]:
    """Open a folder or an archive of `class/file`. A compressed archive is unpacked in memory, never on disk.

    Names that begin with a dot are left out. Names are unique and stay inside the tree.

    Raises:
        WorldError: unreadable, truncated, a member that is no plain file, leads outside, stands twice, or is
            not `class/file`; names it.
    """
    if path.is_dir():
        yield _folder(path)
        return
    if not path.name.endswith(ARCHIVES):
        raise WorldError(f"{path}: neither a folder nor one of {', '.join(ARCHIVES)}")
    try:
        stream = _seekable(path)
    except _BROKEN as error:
        raise WorldError(f"{path}: cannot be unpacked, is it truncated? {_said(error)}") from None
    with stream:
        yield _archive(path, stream)


def _folder(path: Path) -> Tree:
    found = (p for p in path.rglob("*") if p.is_file())
    names = sorted(p.relative_to(path).as_posix() for p in found)

    def read(name: str) -> bytes:
        try:
            return (path / name).read_bytes()
        except OSError as error:
            raise WorldError(f"{path / name}: cannot be read: {_said(error)}") from None

    return Tree(path, _by_folder(path, names), read)


def _archive(path: Path, stream: BinaryIO) -> Tree:
    try:
        archive = tarfile.open(fileobj=stream, mode="r:")  # noqa: SIM115 - lives as long as its stream
        members = archive.getmembers()
    except _BROKEN as error:
        raise WorldError(f"{path}: not a readable tar: {_said(error)}") from None
    stream.seek(archive.offset)
    if stream.read(512).strip(b"\0") or not members or _ends_early(stream, members[-1]):
        raise WorldError(f"{path}: the archive ends early or holds nothing; fetch it again")
    files: dict[str, tarfile.TarInfo] = {}
    for member in members:
        name = _inside(path, member)
        if member.isdir():
            continue
        if name in files:
            raise WorldError(f"{path}: member {name!r} stands twice")
        files[name] = member

    def read(name: str) -> bytes:
        try:
            opened = archive.extractfile(files[name])
            return opened.read() if opened else b""
        except _BROKEN as error:
            raise WorldError(f"{path}/{name}: cannot be read: {_said(error)}") from None

    return Tree(path, _by_folder(path, sorted(files)), read)


def _seekable(path: Path) -> BinaryIO:
    if path.name.endswith((".gz", ".tgz")):
        with gzip.open(path) as packed:
            return io.BytesIO(packed.read())
    if path.name.endswith(".xz"):
        with lzma.open(path) as packed:
            return io.BytesIO(packed.read())
    return path.open("rb")


def _ends_early(stream: BinaryIO, last: tarfile.TarInfo) -> bool:
    """Say whether the last member's data, or the block of zeros that has to follow it, is cut off."""
    end = last.offset_data + -(-last.size // 512) * 512
    return stream.seek(0, io.SEEK_END) < end + 512


def _inside(path: Path, member: tarfile.TarInfo) -> str:
    pure = PurePosixPath(member.name)
    if pure.is_absolute() or ".." in pure.parts:
        raise WorldError(f"{path}: member {member.name!r} leads outside the archive; it is not read")
    if not (member.isreg() or member.isdir()):
        raise WorldError(f"{path}: member {member.name!r} is a link or a device; only plain files are read")
    return pure.as_posix()


def _by_folder(path: Path, names: list[str]) -> dict[str, tuple[str, ...]]:
    folders: dict[str, list[str]] = {}
    for name in names:
        parts = name.split("/")
        if any(part.startswith(".") for part in parts):
            continue
        if len(parts) != 2:
            raise WorldError(f"{path}: {name!r} is not class/file, which is the layout that is needed here")
        folders.setdefault(parts[0], []).append(parts[1])
    return {folder: tuple(files) for folder, files in folders.items()}


def _said(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
