"""Parts whose files are laid out as `class/file`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vitkd_bench.contracts import KnownClass, Part
from vitkd_bench.pipeline.tree import Tree
from vitkd_bench.spec import WorldError, nearest


def part_of_tree(tree: Tree, known: Sequence[KnownClass], name: str) -> Part:
    """Give the files of all classes, in the order of the classes and then of the names.

    A class without a folder has no sample: whether it may is asked of the classes that a suite keeps.

    Raises:
        WorldError: a folder that is none of the classes.
    """
    keys = {c.key for c in known}
    for folder in tree.folders:
        if folder not in keys:
            raise WorldError(
                f"{tree.path}: folder {folder!r} is none of the {len(keys)} classes{nearest(folder, keys)}"
            )
    files = [[f"{c.key}/{file}" for file in tree.folders.get(c.key, ())] for c in known]
    ids = tuple(file for of_class in files for file in of_class)
    labels = np.repeat(np.arange(len(known), dtype=np.int64), [len(of_class) for of_class in files])
    return Part(tree.files.chosen(ids), labels, ids, prefix=f"{name}/")
