"""Members of a zip, read in place and never unpacked to disk."""

from __future__ import annotations

import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from vitkd_bench.pipeline.members import member_name
from vitkd_bench.spec import WorldError

MEMBER_AT_MOST = 1 << 30
"""Bytes of one member, unpacked: no image is larger."""

_HEADER = 30  # bytes of a member's own header, before its name


@dataclass(frozen=True, slots=True, eq=False)
class ZipImages:
    """Members `names`, sorted; `at` (N, 5): header offset, packed size, size, method and CRC-32 of each."""

    path: Path
    names: tuple[str, ...]
    at: NDArray[np.int64]

    @classmethod
    def of(cls, path: Path) -> ZipImages:
        """List the plain files of a zip.

        Raises:
            WorldError: unreadable, truncated, encrypted, or a member that is no plain file, leads outside or
                stands twice; names it.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
        except Exception as error:  # noqa: BLE001 - zipfile lets through whatever broken bytes lead it to
            raise WorldError(f"{path}: not a readable zip: {error}") from None
        spans: dict[str, tuple[int, ...]] = {}
        for member in members:
            name = _inside(path, member)
            if member.is_dir():
                continue
            if name in spans:
                raise WorldError(f"{path}: member {name!r} stands twice")
            spans[name] = _span(path, member)
        names = tuple(sorted(spans))
        return cls(path, names, np.array([spans[name] for name in names], dtype=np.int64).reshape(-1, 5))

    def __len__(self) -> int:
        """Count the members."""
        return len(self.names)

    def read(self, index: int) -> bytes:
        """Read one member; the file is opened for it, so that processes do not share a position."""
        header, packed, size, method, crc = self.at[index].tolist()
        try:
            with self.path.open("rb") as file:
                file.seek(header)
                head = file.read(_HEADER)
                file.seek(int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little"), 1)
                found = file.read(packed)
            if method == zipfile.ZIP_DEFLATED:
                found = zlib.decompressobj(-zlib.MAX_WBITS).decompress(found, size + 1)
        except (OSError, zlib.error) as error:
            raise WorldError(f"{self.place(index)}: cannot be read: {error}") from None
        if head[:4] != b"PK\3\4" or len(found) != size or zlib.crc32(found) != crc:
            raise WorldError(f"{self.place(index)}: does not have its checksum; fetch the archive again")
        return found

    def place(self, index: int) -> str:
        """Give the path of the archive and the member's name."""
        return f"{self.path}/{self.names[index]}"


def _inside(path: Path, member: zipfile.ZipInfo) -> str:
    name = member.filename
    plain = stat.S_IFMT(member.external_attr >> 16) in {0, stat.S_IFREG, stat.S_IFDIR}
    inside = bool(PurePosixPath(name).parts) and "\\" not in name
    return member_name(path, name, plain=plain, inside=inside)


def _span(path: Path, member: zipfile.ZipInfo) -> tuple[int, ...]:
    place = f"{path}: member {member.filename!r}"
    if member.flag_bits & 1 or member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise WorldError(f"{place} is encrypted or packed in a way that is not read here; unpack it once")
    if member.file_size > MEMBER_AT_MOST:
        raise WorldError(f"{place} says that it has {member.file_size} bytes; no image is so large")
    return member.header_offset, member.compress_size, member.file_size, member.compress_type, member.CRC
