"""What is registered, here or by a file that `--extension` names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from vitkd_bench.registry.shelf import Shelf

Entry = TypeVar("Entry")


def load_all(extensions: Iterable[Path] | None) -> None:
    """Run the files that `--extension` named."""
    from vitkd_bench.registry import load_extension

    for extension in extensions or ():
        load_extension(extension)


def entry_of(shelf: Shelf[Entry], name: str, extensions: Iterable[Path] | None) -> Entry:
    """Find an entry, among those of extensions as well.

    Raises:
        BadInputError: unknown name; where no extension was named, that one may be.
    """
    from vitkd_bench.spec import BadInputError

    files = list(extensions or ())
    load_all(files)
    try:
        return shelf.get(name)
    except BadInputError as error:
        if files:
            raise
        raise BadInputError(
            f"{error} (--extension FILE names a file of your own that registers one)"
        ) from None
