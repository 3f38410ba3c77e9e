"""Any images with annotations in the style of COCO or iNaturalist (https://cocodataset.org/#format-data)."""

from __future__ import annotations

from pydantic import Field

from vitkd_bench.datasets._settings import LabelSpace
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import IMAGENET_PIXELS, Carved, Dataset, DatasetSettings


class AnnotatedSettings(DatasetSettings):
    """What a suite says of annotated images."""

    images: str = Field(
        min_length=1, description="a folder or an archive (.tar, .tar.gz, .tar.xz, .zip) of the images"
    )
    train: str = Field(
        min_length=1, description="JSON file that names files in `images`, and their categories"
    )
    test: str = Field(min_length=1, description="the same for test")
    test_images: str | None = Field(
        default=None, min_length=1, description="folder or archive of test's images, where they lie apart"
    )
    label_space: LabelSpace = None
    val: Carved


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
