"""Readers of data sets, one file each; a data set's facts name theirs."""

from __future__ import annotations

import importlib
import pkgutil

from vitkd_bench.contracts import Reader
from vitkd_bench.spec import BadInputError, Dataset, nearest


def reader_of(facts: Dataset) -> Reader:
    """Find the reader of a data set: a module of this package by name, or `module:object` of another.

    Raises:
        BadInputError: there is none.
    """
    name = facts.reader
    module, colon, attribute = name.partition(":")
    if colon:
        try:
            return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]
        except (ImportError, AttributeError) as error:
            raise BadInputError(f"data set {facts.name!r}: reader {name!r}: {error}") from None
    known = [found.name for found in pkgutil.iter_modules(__path__)]
    if name not in known:
        raise BadInputError(f"data set {facts.name!r}: unknown reader {name!r}{nearest(name, known)}")
    return importlib.import_module(f"{__name__}.{name}").READER  # type: ignore[no-any-return]
