"""Where a data set with files of its own lies: its folder under a data root, and the files in that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vitkd_bench.spec import Dataset, DatasetSettings, WorldError, alternatives


@dataclass(frozen=True, slots=True)
class Places:
    """Folders that a data set may lie in, the first one first."""

    dataset: str
    folders: tuple[Path, ...]

    def look(self, *names: str) -> Path | None:
        """Find the first of `names`, in the order of the folders; None if there is none."""
        found = (folder / name for folder in self.folders for name in names if (folder / name).exists())
        return next(found, None)

    def find(self, *names: str) -> Path:
        """Find the first of `names`, in the order of the folders.

        Raises:
            WorldError: there is none; says where it was looked for, and what tells where to get it.
        """
        found = self.look(*names)
        if found is None:
            raise WorldError(self.missing(" or ".join(map(repr, names))))
        return found

    def missing(self, what: str) -> str:
        """Say that something is not there, where it was looked for and what tells where to get it."""
        there = [str(folder) for folder in self.folders if folder.is_dir()]
        places = ", ".join(there or map(str, self.folders)) or "no folder at all"
        return (
            f"data set {self.dataset!r}: no {what} in {places}; name its folder by `root`, --data-root or "
            f"VITKD_DATA; `vitkd datasets show {self.dataset}` says where to get it"
        )


def places_of(
    facts: Dataset,
    settings: DatasetSettings,
    roots: tuple[Path, ...],
    is_home: Callable[[Path], bool] | None = None,
) -> Places:
    """List the folders under `roots` that may hold a data set: the names of the first line of its `files`.

    A setting `root` replaces these names. A root that is itself the data set's folder counts too, last: one
    that holds every line of `files` but the first, or `is_home`.
    """
    named = getattr(settings, "root", None)
    if named is not None:
        return Places(facts.name, tuple(root / named for root in roots))
    names = alternatives(facts.files[0])
    homes = [root for root in roots if _holds_all(root, facts.files[1:]) or (is_home and is_home(root))]
    return Places(facts.name, (*(root / name for root in roots for name in names), *homes))


def _holds_all(root: Path, lines: tuple[str, ...]) -> bool:
    return bool(lines) and all(any((root / n).exists() for n in alternatives(line)) for line in lines)
