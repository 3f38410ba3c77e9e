"""Any folder or archive of images laid out as class/file, for evaluation alone: another domain or style."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vitkd_bench.datasets._settings import ShiftSettings
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import IMAGENET_PIXELS, Dataset


class ShiftFolderSettings(ShiftSettings):
    """What a suite says of a shift set of one's own."""

    test: str = Field(
        min_length=1, description="a folder or an archive (.tar, .tar.gz, .tar.xz, .zip) of class/file"
    )
    within: str | None = Field(
        default=None, min_length=1, description="the folder inside `test` in which the classes lie: a domain"
    )
    classes: str | None = Field(
        default=None,
        min_length=1,
        description="JSON file as data set `folder` takes it, in which a class may have `<space>_index` or "
        "`<space>_indices`, its place or places in the training data's label space; without it the folders "
        "are the classes",
    )
    label_space: str | None = Field(
        default=None,
        min_length=1,
        description="name of these classes, where they are the very ones of a training set",
    )
    pool: Literal["sum", "mean"] = Field(
        default="sum",
        description="makes one probability of several places: their sum, or the mean that Geirhos et al. "
        "take (arXiv:1811.12231)",
    )


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
        notes="Images of a class for which the training data have no place are left out, and the record "
        "counts them.",
    ),
    ShiftFolderSettings,
)
