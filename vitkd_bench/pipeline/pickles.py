"""Pickles of plain data and arrays of bytes, read without running anything that stands in them."""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitkd_bench.spec import WorldError

TUPLES_AT_MOST = 1000
"""A file of CIFAR has about ten. Tuples in tuples by the hundred thousand end a process that hashes them."""

_REFUSED = {"PERSID", "BINPERSID", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"}
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}
_TUPLES = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}


class BytesArray:
    """What stands for an array while a pickle is read; no code of NumPy's meets the file."""

    def __init__(self) -> None:
        """Begin without pixels."""
        self.array: NDArray[np.uint8] | None = None

    def __setstate__(self, state: object) -> None:
        """Take (version, shape, dtype, whether Fortran's order, bytes), as NumPy writes them."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise pickle.UnpicklingError("an array of another form")
        _, shape, kind, fortran, data = state
        if not isinstance(kind, _Kind) or kind.name != "u1" or fortran:
            raise pickle.UnpicklingError("an array of another type than uint8, or in Fortran's order")
        if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise pickle.UnpicklingError("an array without a shape")
        raw = data.encode("latin1") if isinstance(data, str) else data
        if not isinstance(raw, bytes) or len(shape) > 4 or len(raw) != _product(shape):
            raise pickle.UnpicklingError("an array whose bytes do not fit its shape")
        self.array = np.frombuffer(raw, dtype=np.uint8).reshape(shape)


class _Kind:
    """What stands for a dtype."""

    def __init__(self, name: object = "", *_rest: object) -> None:
        self.name = name.decode("latin1") if isinstance(name, bytes) else name

    def __setstate__(self, state: object) -> None:
        """A dtype's state says nothing that matters of bytes."""


def _array(*_arguments: object) -> BytesArray:
    return BytesArray()


def _latin1(text: object, encoding: object = "latin1") -> bytes:
    """Make bytes of a text, as Python 3 writes them in the old protocols."""
    if not isinstance(text, str) or encoding not in {"latin1", b"latin1"}:
        raise pickle.UnpicklingError("a text that is packed in another way")
    return text.encode("latin1")


def _nothing(*_arguments: object) -> None:
    """Stand where a class is named as an argument."""


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _array,
    ("numpy._core.multiarray", "_reconstruct"): _array,
    ("numpy", "ndarray"): _nothing,
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _latin1,
}


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Give what stands for the few names that an array needs."""
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not run here")
        return _KNOWN[module, name]


def parse_pickle(data: bytes, where: str) -> dict[str, Any]:
    """Read a pickled dict of numbers, texts, bytes, lists and uint8 arrays; nothing in it is run.

    Keys become texts; arrays are `BytesArray`.

    Raises:
        WorldError: it is none, is damaged, or asks for anything else.
    """
    try:
        _look_through(data)
        found = _dict(_Plain(io.BytesIO(data), encoding="bytes").load())
        return {key.decode("latin1") if isinstance(key, bytes) else str(key): found[key] for key in found}
    except Exception as error:  # noqa: BLE001 - a damaged pickle raises whatever it leads to
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise WorldError(f"{where}: not a pickle that is read here: {said}") from None


def _look_through(data: bytes) -> None:
    tuples = 0
    for operation, argument, _ in pickletools.genops(data):
        tuples += operation.name in _TUPLES
        if operation.name in _PUTS and int(argument or 0) > len(data):
            raise pickle.UnpicklingError("a memo of more places than the file has bytes")
        if operation.name in _REFUSED or tuples > TUPLES_AT_MOST:
            raise pickle.UnpicklingError(f"{operation.name}, which plain data have no use for")


def _dict(found: object) -> dict[Any, Any]:
    if not isinstance(found, dict):
        raise pickle.UnpicklingError(f"a dict is needed, got {type(found).__name__}")
    return found


def _product(shape: tuple[int, ...]) -> int:
    found = 1
    for side in shape:
        found *= side
    return found
