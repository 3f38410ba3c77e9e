"""Libraries that come with the extra `hub`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from vitkd_bench.spec import Teacher, WorldError


def optional_package(name: str, distribution: str, teacher: Teacher) -> Any:
    """Import a library that only some backends need.

    Raises:
        WorldError: it is not installed, or cannot be imported.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise WorldError(
            f"teacher {teacher.name!r}: backend {name!r} needs {distribution} ({error}): "
            "pip install 'vitkd-bench[hub]', or take another backend of it"
        ) from None
