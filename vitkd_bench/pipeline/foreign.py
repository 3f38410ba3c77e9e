"""Files that strangers wrote, JSON, MATLAB and text: one line of error, whatever is in them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitkd_bench.spec import WorldError

MAT_SCRIPT = ("-P", str(Path(__file__).with_name("mat_process.py")))
MAT_SECONDS = 120
"""What a MATLAB file may take to be read; those of data sets take one."""


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        WorldError: it cannot be read, or is none.
    """
    return parse_json(read_bytes(path), str(path))


def parse_json(data: bytes, where: str) -> Any:
    """Read JSON; `where` is for errors.

    Raises:
        WorldError: it is none, or nested beyond what Python reads.
    """
    try:
        return json.loads(data.decode("utf-8"))
    except ValueError as error:
        raise WorldError(f"{where}: cannot be read as JSON: {error}") from None
    except RecursionError:
        raise WorldError(f"{where}: cannot be read as JSON: nested too deeply") from None


def parse_lines(data: bytes, where: str) -> list[str]:
    """Read the lines of a text, without their ends.

    Raises:
        WorldError: it is not UTF-8.
    """
    try:
        return data.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise WorldError(f"{where}: not a text in UTF-8: {error}") from None


def parse_mat(data: bytes, where: str, *names: str) -> Mapping[str, Any]:
    """Read arrays by name from a MATLAB file of version 5 to 7, as lists; structs as `{field: list}`.

    It is read in a process of its own (`mat_process`), which a damaged file may end.

    Raises:
        WorldError: it is none, or lacks one of `names`.
    """
    if not data.startswith(b"MATLAB 5.0 MAT-file"):
        raise WorldError(f"{where}: cannot be read as a MATLAB file: it is none, or not of version 5 to 7")
    try:
        done = subprocess.run(
            [sys.executable, *MAT_SCRIPT, *names],
            input=data,
            capture_output=True,
            timeout=MAT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WorldError(f"{where}: cannot be read as a MATLAB file: {error}") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["its reader crashed on it"]
        raise WorldError(f"{where}: cannot be read as a MATLAB file: {said[-1]}")
    found: Mapping[str, Any] = parse_json(done.stdout, where)
    for name in names:
        if name not in found:
            raise WorldError(f"{where}: no array {name!r} in it")
    return found


def read_bytes(path: Path) -> bytes:
    """Read a file.

    Raises:
        WorldError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise WorldError(f"{path}: cannot be read: {error.strerror or error}") from None
