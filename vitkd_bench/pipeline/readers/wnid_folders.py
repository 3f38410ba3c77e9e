"""The reader of shift sets in folders by wnid: ImageNet-A, -R and -Sketch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vitkd_bench.contracts import KnownClass, Part
from vitkd_bench.datasets._imagenet import wnid_of
from vitkd_bench.pipeline.places import places_of
from vitkd_bench.pipeline.readers.by_class import part_of_tree
from vitkd_bench.pipeline.tree import Files, open_files, tree_of
from vitkd_bench.spec import ClassInfo, Dataset, DatasetSettings, WorldError, alternatives


@dataclass(frozen=True, slots=True)
class ShiftFolders:
    """Reads a test part whose folders are named by `key`; ids are `test/folder/file`.

    The folder may be the data set's own or the archive as downloaded, whose one top folder is looked into.
    """

    key: Callable[[ClassInfo], str]

    def classes(
        self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]
    ) -> tuple[KnownClass, ...]:
        """List the classes, once the files are there."""
        self._find(facts, settings, roots)
        return self._known(facts)

    def parts(self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]) -> dict[str, Part]:
        """Give the test part, in the order of the classes and then of the names."""
        known = self._known(facts)
        files = open_files(self._find(facts, settings, roots))
        files = _below_top(files, {c.key for c in known})
        return {"test": part_of_tree(tree_of(files), known, "test")}

    def _known(self, facts: Dataset) -> tuple[KnownClass, ...]:
        return tuple(KnownClass(info, self.key(info)) for info in facts.classes or ())

    def _find(self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]) -> Path:
        keys = {c.key: None for c in self._known(facts)}

        def has_classes(folder: Path) -> bool:
            return any(path.name in keys for path in _listed(folder))

        places = places_of(facts, settings, roots, has_classes)
        names = (*alternatives(facts.files[0]), "sketch")
        for folder in places.folders:
            for home in (folder, *(folder / name for name in names)):
                if has_classes(home):
                    return home
        archive = places.look(*alternatives(facts.files[1]))
        if archive is None:
            raise WorldError(places.missing(f"folder {next(iter(keys))!r} ... or {facts.files[1]!r}"))
        return archive


READER = ShiftFolders(wnid_of)


def _listed(folder: Path) -> list[Path]:
    """List a folder once, as asking for a thousand classes one by one takes long on a shared disk."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _below_top(files: Files, keys: set[str]) -> Files:
    """Look into the one folder of an archive, past a README beside the classes."""
    tops = files.tops()
    if len(tops) == 1 and not tops & keys:
        files = files.under(tops.pop())
    return files.without(name for name in files.names if name.upper().startswith("README"))
