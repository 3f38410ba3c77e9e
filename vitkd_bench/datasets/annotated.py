"""Any images with annotations in the style of COCO or iNaturalist (https://cocodataset.org/#format-data)."""

from __future__ import annotations

from pydantic import Field

from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import IMAGENET_PIXELS, Dataset, DatasetSettings, Validation


class AnnotatedSettings(DatasetSettings):
    """What a suite says of annotated images.

    `images` is a folder or an archive (.tar, .tar.gz, .tar.xz, .zip) in which `train` and `test`, JSON files,
    name files; `test_images` is another one for test, where there is one. `val` is carved from train.
    `label_space` names these classes where a teacher's head is for them.
    """

    images: str = Field(min_length=1)
    train: str = Field(min_length=1)
    test: str = Field(min_length=1)
    test_images: str | None = Field(default=None, min_length=1)
    label_space: str | None = Field(default=None, min_length=1)
    val: Validation


DATASETS.register(
    Dataset(
        name="annotated",
        title="Any images with COCO or iNaturalist style annotations",
        source="files of one's own",
        licence="that of the files",
        reader="annotated",
        channels=3,
        pixels=IMAGENET_PIXELS,
        split_rule="train and test as the two files say; val: of each class of train, by a hash of the "
        "image's file name and the seed of val",
        augmentation="flip, crop",
        notes="Classes are the categories in the order of their ids. An image of two categories is refused, "
        "as is one that is not there; images that no annotation names are left alone.",
    ),
    AnnotatedSettings,
)
