"""Any folder or tar of images laid out as class/file, with a split of one's own."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from vitkd_bench.datasets._settings import LabelSpace
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import IMAGENET_PIXELS, Carved, Dataset, DatasetSettings, Validation
from vitkd_bench.spec.base import Frozen

Name = Annotated[str, Field(min_length=1)]


class Within(Frozen):
    """Folders inside `train` and inside `test` in which the classes lie."""

    train: Name
    test: Name


class FolderSettings(DatasetSettings):
    """What a suite says of a folder of images.

    The file of `classes` is a JSON list (or `{"classes": [...]}`) of names or of
    `{"label": 0, "wnid": "n01443537", "name": "goldfish", "imagenet1k_index": 1}`, of which `name` alone is
    needed; every `<space>_index` is the class's index in that label space, every `<space>_indices` a list of
    several. Folders are matched by `wnid` where it is given, else by name.
    """

    train: str = Field(
        min_length=1, description="a folder or an archive (.tar, .tar.gz, .tar.xz, .zip) of class/file"
    )
    test: Name | Validation = Field(
        description="another one, or how it is carved from train, before val and as val is: {share: 0.2}"
    )
    within: Name | Within | None = Field(
        default=None,
        description="folder inside `train` and `test` in which the classes lie, one for both or one each: "
        "photo, or {train: photo, test: sketch}",
    )
    classes: str | None = Field(
        default=None,
        min_length=1,
        description="JSON file of classes; without it the folders of train are the classes, numbers by value",
    )
    label_space: LabelSpace = None
    val: Carved

    @model_validator(mode="after")
    def _test_is_not_train(self) -> FolderSettings:
        carved, apart = isinstance(self.test, Validation), isinstance(self.within, Within)
        if carved and apart:
            raise ValueError("within: test is carved from train, so name one folder")
        if self.test == self.train and self.folder("train") == self.folder("test"):
            raise ValueError("test: the same files as train; carve it instead, {share: 0.2}")
        return self

    def folder(self, part: str) -> str | None:
        """Give the folder inside `train` or `test` in which the classes lie; None for their top."""
        return getattr(self.within, part) if isinstance(self.within, Within) else self.within


DATASETS.register(
    Dataset(
        name="folder",
        title="Any folder or tar of images, class/file",
        source="files of one's own",
        licence="that of the files",
        reader="folder",
        channels=3,
        pixels=IMAGENET_PIXELS,
        split_rule="test as given, or carved from train as val is; val: so many images of each class of "
        "train, in the order of a hash of the image's path and the seed of val",
        augmentation="flip, crop",
        notes="Images become RGB, turned as their EXIF says; the largest centred square is resized.",
    ),
    FolderSettings,
)
