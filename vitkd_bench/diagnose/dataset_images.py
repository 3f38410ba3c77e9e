"""Every image of a data set looked at once: can it be decoded, and what is its content?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from vitkd_bench.contracts import Images
from vitkd_bench.pipeline.decode import opened
from vitkd_bench.spec import WorldError

BLOCK = 32  # images that a thread takes at a time
DECODED_CHANNELS = 3
"""Channels of an image that comes as a file: whatever it is, it becomes RGB."""

Watch = Callable[[int, int], None]
"""Told how many images were looked at, and of how many."""


def look_at(
    images: Images, channels: int, jobs: int = 1, watch: Callable[[int], None] | None = None
) -> list[bytes | str]:
    """Decode every image: a digest of its content, 16 bytes, or one line that says why it cannot be used.

    Content is the bytes of a file, or pixels that come as such with their shape. Threads will do: reading,
    decoding and hashing let others work meanwhile. What fails beside others is tried once more alone.

    Args:
        images: not decoded.
        channels: that every image must have, 1 or 3 say.
        jobs: threads.
        watch: told how many images more were looked at.
    """
    blocks = [range(start, min(start + BLOCK, len(images))) for start in range(0, len(images), BLOCK)]
    found: list[bytes | str] = []
    for block in _mapped(partial(_looked, images, channels), blocks, jobs):
        found += block
        if watch is not None:
            watch(len(block))
    failed = [i for i, one in enumerate(found) if isinstance(one, str)]
    for i in failed if jobs > 1 else ():
        found[i] = look(images, i, channels)
    return found


def look(images: Images, index: int, channels: int) -> bytes | str:
    """Decode one image: a digest of its content, or one line that says why it cannot be used."""
    try:
        return _digest(images, index, channels)
    except WorldError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - a stranger's reader may raise anything; the line says what
        said = " ".join(str(error).split())
        return f"{images.place(index)}: {type(error).__name__}: {said}"


def _digest(images: Images, index: int, channels: int) -> bytes:
    found: object = images.read(index)  # a stranger's reader may give anything
    place = images.place(index)
    if isinstance(found, bytes):
        opened(found, place)
        _refuse_channels(DECODED_CHANNELS, channels, place)
        return hashlib.blake2b(found, digest_size=16).digest()
    if not isinstance(found, np.ndarray) or found.dtype != np.uint8 or found.ndim != 3:
        kind = f"{found.shape} {found.dtype}" if isinstance(found, np.ndarray) else type(found).__name__
        raise WorldError(f"{place}: {kind}; the bytes of a file or pixels (C, H, W) uint8 are needed")
    _refuse_channels(len(found), channels, place)
    hashed = hashlib.blake2b(repr(found.shape).encode(), digest_size=16)
    hashed.update(np.ascontiguousarray(found).data)
    return hashed.digest()


def _refuse_channels(found: int, wanted: int, place: str) -> None:
    if found != wanted:
        raise WorldError(f"{place}: {found} channels, the facts of the data set say {wanted}")


def _looked(images: Images, channels: int, block: Sequence[int]) -> list[bytes | str]:
    return [look(images, i, channels) for i in block]


def _mapped(
    work: Callable[[Sequence[int]], list[bytes | str]], blocks: Iterable[Sequence[int]], jobs: int
) -> Iterator[list[bytes | str]]:
    if jobs == 1:
        yield from map(work, blocks)
        return
    pool = ThreadPoolExecutor(jobs)
    try:
        yield from pool.map(work, blocks)
    finally:
        pool.shutdown(cancel_futures=True)
