"""The reader of any shift set laid out as `class/file`."""

from __future__ import annotations

from pathlib import Path

from vitkd_bench.contracts import KnownClass, Part
from vitkd_bench.datasets.shift_folder import ShiftFolderSettings
from vitkd_bench.pipeline.class_list import classes_of_folders, read_classes
from vitkd_bench.pipeline.readers.by_class import part_of_tree
from vitkd_bench.pipeline.readers.folder import tree_within
from vitkd_bench.pipeline.tree import find
from vitkd_bench.spec import BadInputError, Dataset, DatasetSettings


class ShiftFolderReader:
    """Reads `test` of `ShiftFolderSettings`; ids are `test/class/file`."""

    def classes(
        self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]
    ) -> tuple[KnownClass, ...]:
        """List the classes of the JSON file, or else the folders."""
        own = _own(settings)
        test = find(own.test, "test", roots, facts.name)
        if own.classes is not None:
            return read_classes(find(own.classes, "classes", roots, facts.name))
        return classes_of_folders(tree_within(test, own.within).folders)

    def parts(self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]) -> dict[str, Part]:
        """Give the test part, sorted by class and then by file."""
        own, known = _own(settings), self.classes(facts, settings, roots)
        tree = tree_within(find(own.test, "test", roots, facts.name), own.within)
        return {"test": part_of_tree(tree, known, "test")}


READER = ShiftFolderReader()


def _own(settings: DatasetSettings) -> ShiftFolderSettings:
    if not isinstance(settings, ShiftFolderSettings):
        raise BadInputError("reader 'shift_folder': register the data set with ShiftFolderSettings")
    return settings
