"""The reader of any shift set laid out as `class/file`."""

from __future__ import annotations

from pathlib import Path

from vitkd_bench.contracts import KnownClass, Part
from vitkd_bench.datasets.shift_folder import ShiftFolderSettings
from vitkd_bench.pipeline.class_list import classes_of_folders, read_classes
from vitkd_bench.pipeline.readers.by_class import part_of_tree
from vitkd_bench.pipeline.readers.folder import below
from vitkd_bench.pipeline.tree import find, open_files
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
        return classes_of_folders(below(open_files(test), own.within).folders)

    def parts(self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]) -> dict[str, Part]:
        """Give the test part, sorted by class and then by file."""
        own = _own(settings)
        tree = below(open_files(find(own.test, "test", roots, facts.name)), own.within)
        if own.classes is not None:
            known = read_classes(find(own.classes, "classes", roots, facts.name))
        else:
            known = classes_of_folders(tree.folders)
        return {"test": part_of_tree(tree, known, "test")}


READER = ShiftFolderReader()


def _own(settings: DatasetSettings) -> ShiftFolderSettings:
    if not isinstance(settings, ShiftFolderSettings):
        raise BadInputError("reader 'shift_folder': register the data set with ShiftFolderSettings")
    return settings
