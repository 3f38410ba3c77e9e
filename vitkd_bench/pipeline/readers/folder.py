"""The reader of any folder or archive of images, `class/file`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vitkd_bench.contracts import KnownClass, Part
from vitkd_bench.datasets.folder import FolderSettings
from vitkd_bench.pipeline.class_list import classes_of_folders, read_classes
from vitkd_bench.pipeline.parts import taken
from vitkd_bench.pipeline.readers.by_class import part_of_tree
from vitkd_bench.pipeline.selection import hash_order
from vitkd_bench.pipeline.tree import Tree, find, open_files, open_tree, tree_of
from vitkd_bench.spec import BadInputError, Dataset, DatasetSettings, Validation, WorldError


class FolderReader:
    """Reads `train` and `test` of `FolderSettings`; ids are `train/class/file` and `test/class/file`."""

    def classes(
        self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]
    ) -> tuple[KnownClass, ...]:
        """List the classes of the JSON file, or else the folders of train."""
        own = _own(settings)
        train = find(own.train, "train", roots, facts.name)
        if isinstance(own.test, str):
            find(own.test, "test", roots, facts.name)
        if own.classes is not None:
            return read_classes(find(own.classes, "classes", roots, facts.name))
        return classes_of_folders(tree_within(train, own.folder("train")).folders)

    def parts(self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]) -> dict[str, Part]:
        """Give train and test, sorted by class and then by file."""
        own, known = _own(settings), self.classes(facts, settings, roots)
        path = find(own.train, "train", roots, facts.name)
        train = part_of_tree(tree_within(path, own.folder("train")), known, "train")
        if isinstance(own.test, Validation):
            return dict(zip(("train", "test"), _carved(train, own.test, known), strict=True))
        path = find(own.test, "test", roots, facts.name)
        return {"train": train, "test": part_of_tree(tree_within(path, own.folder("test")), known, "test")}


READER = FolderReader()


def tree_within(path: Path, folder: str | None) -> Tree:
    """Open `class/file` in a folder inside a folder or an archive, at its top if None.

    Raises:
        WorldError: there is no such folder inside; or as `open_tree`.
    """
    if folder is None:
        return open_tree(path)
    files = open_files(path)
    below = files.under(folder.strip("/"))
    if not below.names:
        raise WorldError(
            f"{path}: within: no folder {folder!r} in it; {', '.join(sorted(files.tops())[:20])}"
        )
    return tree_of(below)


def _carved(train: Part, rule: Validation, known: tuple[KnownClass, ...]) -> tuple[Part, Part]:
    """Split train into train and test, class by class, in the order of a hash of the ids."""
    test = np.zeros(len(train), dtype=bool)
    for label, each in enumerate(known):
        at = np.flatnonzero(train.labels == label).tolist()
        count = rule.per_class or round(len(at) * (rule.share or 0))
        if rule.share is not None:
            count = min(max(1, count), max(0, len(at) - 1))
        if count >= max(1, len(at)):
            raise BadInputError(
                f"test.per_class: {count} leaves nothing to train on: class {each.info.name!r} has {len(at)} "
                "images"
            )
        place = {train.ids[i]: i for i in at}
        test[[place[name] for name in hash_order(place, "test", rule.seed)[:count]]] = True
    return taken(train, np.flatnonzero(~test)), taken(train, np.flatnonzero(test))


def _own(settings: DatasetSettings) -> FolderSettings:
    if not isinstance(settings, FolderSettings):
        raise BadInputError("reader 'folder': register the data set with FolderSettings")
    return settings
