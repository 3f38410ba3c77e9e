"""The reader of any folder or archive of images, `class/file`."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from vitkd_bench.contracts import KnownClass, Part
from vitkd_bench.datasets.folder import FolderSettings
from vitkd_bench.pipeline.class_list import classes_of_folders, read_classes
from vitkd_bench.pipeline.parts import taken
from vitkd_bench.pipeline.readers.by_class import part_of_tree
from vitkd_bench.pipeline.selection import hash_order
from vitkd_bench.pipeline.tree import Files, Tree, find, open_files, tree_of
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
            _refuse_same(own, train, find(own.test, "test", roots, facts.name))
        if own.classes is not None:
            return read_classes(find(own.classes, "classes", roots, facts.name))
        return classes_of_folders(below(open_files(train), own.folder("train")).folders)

    def parts(self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]) -> dict[str, Part]:
        """Give train and test, sorted by class and then by file."""
        own = _own(settings)
        path = find(own.train, "train", roots, facts.name)
        files = open_files(path)
        tree = below(files, own.folder("train"))
        known = self._known(own, tree, facts, roots)
        train = part_of_tree(tree, known, "train")
        if isinstance(own.test, Validation):
            return dict(zip(("train", "test"), _carved(train, own.test, known), strict=True))
        other = find(own.test, "test", roots, facts.name)
        files = files if other == path else open_files(other)
        return {"train": train, "test": part_of_tree(below(files, own.folder("test")), known, "test")}

    def _known(
        self, own: FolderSettings, train: Tree, facts: Dataset, roots: tuple[Path, ...]
    ) -> tuple[KnownClass, ...]:
        if own.classes is not None:
            return read_classes(find(own.classes, "classes", roots, facts.name))
        return classes_of_folders(train.folders)


READER = FolderReader()


def below(files: Files, folder: str | None) -> Tree:
    """Take the files below a folder for a tree of `class/file`; all of them if it is None.

    Raises:
        WorldError: there is no such folder inside, or a file is laid out otherwise.
    """
    if folder is None:
        return tree_of(files)
    found = files.under(folder.strip("/"))
    if not found.names:
        known = ", ".join(sorted(files.tops())[:20])
        raise WorldError(f"{files.path}: within: no folder {folder!r} in it; it has {known}")
    return tree_of(found)


def _refuse_same(own: FolderSettings, train: Path, test: Path) -> None:
    """Refuse one folder under two names: what is trained on would be reported."""
    inside = [str(PurePosixPath(own.folder(part) or ".")).strip("/") for part in ("train", "test")]
    if inside[0] == inside[1] and train.resolve() == test.resolve():
        raise BadInputError(f"test: {test} is what train names too; carve it instead, {{share: 0.2}}")


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
