"""Random numbers by counter: a sample's draws depend on a key and the sample's number, on nothing else.

A generator with a state would tie a sample's augmentation to the batch that it comes in. Here each sample has
a stream of its own (SplitMix64: Steele, Lea and Flood, OOPSLA 2014), computed for a whole batch at once, in
integers, so that it is the same on every machine. timm draws from the global generators of Python and numpy;
`global_generators` lends them to it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_QUANTILES = 1 << 16


def bits(key: int, samples: NDArray[np.int64], count: int) -> NDArray[np.uint64]:
    """Draw `count` words of 64 bits for each sample: (count, B). `key` is the stream (`spec.seeds`)."""
    numbers = np.asarray(samples).astype(np.uint64) + np.uint64(1)
    state = _mix(np.uint64(key) ^ (numbers * _GOLDEN))
    steps = np.arange(1, count + 1, dtype=np.uint64)[:, None]
    return _mix(state + steps * _GOLDEN)


def uniforms(key: int, samples: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Draw `count` numbers in [0, 1) for each sample: (count, B), 53 random bits each."""
    return (bits(key, samples, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normals(key: int, samples: NDArray[np.int64], count: int) -> NDArray[np.float32]:
    """Draw `count` standard normal numbers for each sample: (B, count).

    Each is one of 65,536 equally likely quantiles (the largest 4.17), so that one word gives four of them and
    no machine's logarithm comes into it.
    """
    words = np.ascontiguousarray(bits(key, samples, -(-count // 4)).T)
    return np.asarray(_quantiles()[words.astype("<u8").view("<u2")][:, :count])


def permutation(key: int, size: int) -> NDArray[np.int64]:
    """Shuffle 0 .. size - 1: the order of one random word each."""
    words = bits(key, np.arange(size, dtype=np.int64), 1)[0]
    return np.argsort(words, kind="stable").astype(np.int64)


@contextmanager
def global_generators() -> Iterator[Callable[[int], None]]:
    """Lend the global generators of Python and numpy, and put them back as they were.

    Gives a function that starts both at a key of 64 bits. What another thread draws from them inside the
    block would come between: batches are made in one thread.
    """
    outside = random.getstate(), np.random.get_state()  # noqa: NPY002 - these are what timm draws from
    try:
        yield _start
    finally:
        random.setstate(outside[0])
        np.random.set_state(outside[1])  # noqa: NPY002


def _start(key: int) -> None:
    random.seed(key)
    np.random.seed([key & 0xFFFFFFFF, key >> 32])  # noqa: NPY002


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    words = (words ^ (words >> np.uint64(30))) * _FIRST
    words = (words ^ (words >> np.uint64(27))) * _SECOND
    return words ^ (words >> np.uint64(31))


@cache
def _quantiles() -> NDArray[np.float32]:
    normal = NormalDist()
    upper = [normal.inv_cdf((i + 0.5) / _QUANTILES) for i in range(_QUANTILES // 2, _QUANTILES)]
    return np.array([-z for z in reversed(upper)] + upper, dtype=np.float32)
