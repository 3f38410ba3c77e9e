"""Any folder or archive of images laid out as class/file, for evaluation alone: another domain or style."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vitkd_bench.datasets._settings import ShiftSettings
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import IMAGENET_PIXELS, Dataset


class ShiftFolderSettings(ShiftSettings):
    """What a suite says of a shift set of one's own.

    `test` is a folder or an archive (.tar, .tar.gz, .tar.xz, .zip) of `class/file`, and `within` the folder
    inside it in which the classes lie: a domain. `classes` is a JSON file as data set `folder` takes it, in
    which a class may have `<space>_index` or `<space>_indices`, its place or places in the training data's
    label space; without it the folders are the classes. `pool` makes one probability of several places:
    their sum, or the mean that Geirhos et al. take (arXiv:1811.12231). `label_space` names these classes
    where they are the very ones of a training set.
    """

    test: str = Field(min_length=1)
    within: str | None = Field(default=None, min_length=1)
    classes: str | None = Field(default=None, min_length=1)
    label_space: str | None = Field(default=None, min_length=1)
    pool: Literal["sum", "mean"] = "sum"


DATASETS.register(
    Dataset(
        name="shift_folder",
        title="Any folder or archive of images, class/file, for evaluation",
        source="files of one's own",
        licence="that of the files",
        reader="shift_folder",
        channels=3,
        pixels=IMAGENET_PIXELS,
        role="shift",
        split_rule="all of it is test",
        decode="anew",
        notes="A class for which the training data have no place is left out by `subset: {classes: [...]}`.",
    ),
    ShiftFolderSettings,
)
