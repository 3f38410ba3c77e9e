"""Any folder or tar of images laid out as class/file, with a split of one's own."""

from __future__ import annotations

from pydantic import Field

from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import IMAGENET_PIXELS, Dataset, DatasetSettings, Validation


class FolderSettings(DatasetSettings):
    """What a suite says of a folder of images.

    `train` and `test` are folders or archives (.tar, .tar.gz, .tar.xz) of `class/file`; `val` is carved from
    train. `classes` is a JSON file: a list (or `{"classes": [...]}`) of names or of
    `{"label": 0, "wnid": "n01443537", "name": "goldfish", "imagenet1k_index": 1}`, of which `name` alone is
    needed; every `<space>_index` is the class's index in that label space. Folders are matched by `wnid`
    where it is given, else by name. Without the file, the folders of `train` are the classes, numbers by
    value. `label_space` names these classes where a teacher's head is for them.
    """

    train: str = Field(min_length=1)
    test: str = Field(min_length=1)
    classes: str | None = Field(default=None, min_length=1)
    label_space: str | None = Field(default=None, min_length=1)
    val: Validation


DATASETS.register(
    Dataset(
        name="folder",
        title="Any folder or tar of images, class/file",
        source="files of one's own",
        licence="that of the files",
        reader="folder",
        channels=3,
        pixels=IMAGENET_PIXELS,
        split_rule="test as given; val: so many images of each class of train, in the order of a hash of "
        "the image's path and the seed of val",
        augmentation="flip, crop",
        notes="Images become RGB, turned as their EXIF says; the largest centred square is resized.",
    ),
    FolderSettings,
)
