"""Small pictures and archives of which layouts are written, and what a layout says of itself."""

import io
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Samples = dict[str, tuple[str, bytes]]
"""What a part holds: `{id: (class's key, the image's bytes)}`."""


@dataclass
class Written:
    """A small set on disk: the settings that open it, and what must be found, whole ids by part."""

    settings: dict[str, Any]
    parts: dict[str, Samples] = field(default_factory=dict)


def picture(name: str, size: tuple[int, int] = (12, 10), kind: str = "JPEG") -> bytes:
    """A picture of noise that depends on its name alone, as the bytes of a file."""
    drawn = np.random.default_rng(zlib.crc32(name.encode()))
    pixels = drawn.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files under a folder, in an order that is not sorted."""
    for name in sorted(files, reverse=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files[name])


def tar_of(files: Mapping[str, bytes], mode: str = "w") -> bytes:
    """A tar of files, in an order that is not sorted."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for name in sorted(files, reverse=True):
            info = tarfile.TarInfo(name)
            info.size = len(files[name])
            tar.addfile(info, io.BytesIO(files[name]))
    return buffer.getvalue()


def zip_of(files: Mapping[str, bytes]) -> bytes:
    """A zip of files, packed, in an order that is not sorted."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files, reverse=True):
            archive.writestr(name, files[name])
    return buffer.getvalue()


def below(folder: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The same files in a folder."""
    return {f"{folder}/{name}": data for name, data in files.items()}


def named(keys: Iterable[str], count: int, pattern: str) -> dict[str, tuple[str, bytes]]:
    """Pictures of classes: `{name: (key, bytes)}`, with `{key}`, `{k}` of the class and `{n}` of all."""
    found: dict[str, tuple[str, bytes]] = {}
    for k in range(count):
        for key in keys:
            name = pattern.format(key=key, k=k, n=len(found) + 1)
            found[name] = key, picture(f"{pattern}{name}")
    return found
