"""Run as a script: reads a MATLAB file from standard input and writes the arrays named as arguments as JSON.

It is a process of its own because scipy's compiled reader (1.17) ends the process that it runs in on some
damaged files, instead of raising.
"""

from __future__ import annotations

import io
import json
import sys
import warnings
from typing import Any

import numpy as np


def plain(found: Any) -> Any:
    """Make lists of an array; of an array of structs `{field: list}`, of those fields that are simple."""
    array = np.asarray(found)
    if array.dtype.names:
        columns = {
            name: [_simple(value) for value in np.atleast_1d(array[name])] for name in array.dtype.names
        }
        return {name: values for name, values in columns.items() if None not in values}
    return [_simple(value) for value in np.atleast_1d(array).ravel()]


def _simple(value: Any) -> str | float | int | None:
    """Give a text or a number, None for anything else."""
    found = np.asarray(value)
    if found.shape or found.dtype.kind not in "iufU":
        return None
    return found.item()  # type: ignore[no-any-return]


def main(names: list[str]) -> None:
    """Read and write."""
    from scipy.io import loadmat

    warnings.simplefilter("error")
    found = loadmat(io.BytesIO(sys.stdin.buffer.read()), squeeze_me=True, variable_names=names)
    json.dump({name: plain(found[name]) for name in names if name in found}, sys.stdout)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Exception as error:  # noqa: BLE001 - one line for the process that asked
        sys.exit((str(error).splitlines() or [type(error).__name__])[0])
