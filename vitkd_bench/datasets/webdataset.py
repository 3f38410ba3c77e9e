"""Any WebDataset: tars of images and their labels side by side (https://github.com/webdataset/webdataset)."""

from __future__ import annotations

from pydantic import Field

from vitkd_bench.datasets._settings import LabelSpace
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import IMAGENET_PIXELS, Carved, Dataset, DatasetSettings


class WebdatasetSettings(DatasetSettings):
    """What a suite says of shards.

    A sample is `key.jpg` (.jpeg, .png, .webp) with `key.cls`, a number or a class's name, or with `key.json`.
    """

    train: str = Field(
        min_length=1,
        description="a .tar file, or several by a range in braces: birds/train-{000..011}.tar",
    )
    test: str = Field(min_length=1, description="the same for test")
    classes: str | None = Field(
        default=None,
        min_length=1,
        description="JSON file of classes as data set `folder` takes it; without it the labels of train are "
        "the classes, numbers by value",
    )
    label: str = Field(default="label", min_length=1, description="field of `key.json` that holds the label")
    label_space: LabelSpace = None
    val: Carved


DATASETS.register(
    Dataset(
        name="webdataset",
        title="Any WebDataset shards",
        source="files of one's own",
        licence="that of the files",
        reader="webdataset",
        channels=3,
        pixels=IMAGENET_PIXELS,
        split_rule="train and test as given; val: of each class of train, by a hash of shard, key and the "
        "seed of val",
        augmentation="flip, crop",
        notes="Shards are read at any place, so samples are drawn anew each epoch as everywhere, which the "
        "webdataset library's streams cannot do: our own reader finds them by their offsets.",
    ),
    WebdatasetSettings,
)
