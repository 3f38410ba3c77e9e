"""The reader of any folder or tar of images, `class/file`."""

from __future__ import annotations

from pathlib import Path

from vitkd_bench.contracts import KnownClass, Part
from vitkd_bench.datasets.folder import FolderSettings
from vitkd_bench.pipeline.class_list import classes_of_folders, read_classes
from vitkd_bench.pipeline.readers.by_class import part_of_tree
from vitkd_bench.pipeline.tree import find, open_tree
from vitkd_bench.spec import BadInputError, Dataset, DatasetSettings


class FolderReader:
    """Reads `train` and `test` of `FolderSettings`; ids are `train/class/file` and `test/class/file`."""

    def classes(
        self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]
    ) -> tuple[KnownClass, ...]:
        """List the classes of the JSON file, or else the folders of train."""
        own = _own(settings)
        train, _ = (find(getattr(own, field), field, roots, facts.name) for field in ("train", "test"))
        if own.classes is not None:
            return read_classes(find(own.classes, "classes", roots, facts.name))
        return classes_of_folders(open_tree(train).folders)

    def parts(self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]) -> dict[str, Part]:
        """Give train and test, sorted by class and then by file."""
        own, known = _own(settings), self.classes(facts, settings, roots)
        return {
            field: part_of_tree(open_tree(find(getattr(own, field), field, roots, facts.name)), known, field)
            for field in ("train", "test")
        }


READER = FolderReader()


def _own(settings: DatasetSettings) -> FolderSettings:
    if not isinstance(settings, FolderSettings):
        raise BadInputError("reader 'folder': register the data set with FolderSettings")
    return settings
