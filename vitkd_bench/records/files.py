"""Files that are whole or absent: atomic writes, sealed blobs, records that notice any change."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import secrets
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vitkd_bench.spec import BadInputError, DamagedFileError, Record, WorldError
from vitkd_bench.spec.record import RECORD_SCHEMA

_SEAL = b"vitkd-sealed-1 "
_DIGEST = ',\n  "digest": "'
_END = '"\n}\n'
_HEX = 64
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that zip knows: equal arrays give equal bytes


def write_atomically(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file so that whoever looks sees the old content or the new one, never a part.

    Args:
        path: where it goes; missing folders are made.
        data: all of it.
        durable: also outlive a loss of power (two fsyncs, some milliseconds each).

    Raises:
        WorldError: the disk refuses; names the file and why.
    """
    aside = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(aside, data, durable=durable)
        aside.replace(path)
        if durable:
            sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise WorldError(f"{path}: cannot be written: {error.strerror or error}") from None


def _write(path: Path, data: bytes, *, durable: bool) -> None:
    with path.open("wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder outlive a loss of power."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_bytes(path: Path) -> bytes | None:
    """Read a whole file; None if there is none.

    Raises:
        WorldError: it is there and cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise WorldError(f"{path}: cannot be read: {error.strerror or error}") from None


def with_digest(data: Mapping[str, Any]) -> bytes:
    """Write plain data as pretty JSON whose last line holds the SHA-256 of all text before it.

    The digest covers the text and not its meaning, so that any changed byte is noticed.

    Raises:
        ValueError: a number that is not finite, or a key named `digest`.
    """
    if "digest" in data or not data:
        raise ValueError("data to be sealed needs at least one key, and none named digest")
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False).removesuffix("\n}")
    body = text.encode(errors="replace")  # a file name in an error's message need not be Unicode
    return body + f"{_DIGEST}{_sha256(body)}{_END}".encode()


def without_digest(content: bytes, path: Path) -> dict[str, Any]:
    """Check the digest of a file that `with_digest` made, and give its data.

    Raises:
        DamagedFileError: truncated or altered; names `path`.
    """
    body, mark, tail = content.rpartition(_DIGEST.encode())
    if not mark or len(tail) != _HEX + len(_END) or not tail.endswith(_END.encode()):
        raise DamagedFileError(f"{path}: truncated: it does not end with its digest")
    if tail[:_HEX] != _sha256(body).encode():
        raise DamagedFileError(f"{path}: altered: its content does not agree with its digest")
    try:
        data: dict[str, Any] = json.loads(body + b"\n}")
    except ValueError as error:
        raise DamagedFileError(f"{path}: not valid JSON: {error}") from None
    return data


def parse_record(content: bytes, path: Path, run_id: str) -> Record:
    """Read a record from the bytes of its file.

    Raises:
        DamagedFileError: truncated, altered, of another schema version, or another run's.
    """
    data = without_digest(content, path)
    check_schema(data, RECORD_SCHEMA, path)
    try:
        record = Record.parse(data, str(path))
    except BadInputError as error:
        raise DamagedFileError(str(error)) from None
    if record.run_id != run_id:
        raise DamagedFileError(f"{path}: holds run {record.run_id}, its name says {run_id}")
    return record


def check_schema(data: Mapping[str, Any], wanted: int, path: Path) -> None:
    """Refuse a file of another schema version.

    Raises:
        DamagedFileError: names both versions.
    """
    if data.get("schema") != wanted:
        raise DamagedFileError(
            f"{path}: schema {data.get('schema')}; this version of vitkd_bench reads schema {wanted}"
        )


def write_sealed(path: Path, payload: bytes) -> None:
    """Write a blob behind a line with its SHA-256, atomically and durably."""
    write_atomically(path, _SEAL + _sha256(payload).encode() + b"\n" + payload)


def read_sealed(path: Path) -> bytes:
    """Read a blob that `write_sealed` wrote.

    Raises:
        WorldError: there is no such file.
        DamagedFileError: truncated, altered, or not a sealed file.
    """
    content = read_bytes(path)
    if content is None:
        raise WorldError(f"{path}: no such file")
    head = len(_SEAL) + _HEX
    if not content.startswith(_SEAL) or content[head : head + 1] != b"\n":
        raise DamagedFileError(f"{path}: truncated, or not a sealed file")
    payload = content[head + 1 :]
    if content[len(_SEAL) : head] != _sha256(payload).encode():
        raise DamagedFileError(f"{path}: altered or truncated: its content does not agree with its digest")
    return payload


def pack_arrays(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Write arrays as a compressed npz file whose zip comment is the SHA-256 of all bytes before it.

    Equal arrays give equal bytes; any reader of npz files can open it.

    Raises:
        ValueError: an array of Python objects, which only pickle could hold.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.comment = bytes(_HEX)
        for name in sorted(arrays):
            member = zipfile.ZipInfo(f"{name}.npy", _ZIP_DATE)
            member.compress_type = zipfile.ZIP_DEFLATED
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asarray(arrays[name]), allow_pickle=False)
            archive.writestr(member, content.getvalue())
    body = buffer.getvalue()[:-_HEX]
    return body + _sha256(body).encode()


def check_arrays(content: bytes, path: Path) -> None:
    """Check the digest of what `pack_arrays` wrote, without unpacking it.

    Raises:
        DamagedFileError: truncated or altered; names `path`.
    """
    if content[-_HEX:] != _sha256(content[:-_HEX]).encode():
        raise DamagedFileError(f"{path}: truncated or altered: its content does not agree with its digest")


def unpack_arrays(content: bytes, path: Path) -> dict[str, np.ndarray]:
    """Read what `pack_arrays` wrote.

    Raises:
        DamagedFileError: truncated or altered; names `path`.
    """
    check_arrays(content, path)
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
