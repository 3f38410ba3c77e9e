"""Any WebDataset: tars of images and their labels side by side (https://github.com/webdataset/webdataset)."""

from __future__ import annotations

from pydantic import Field

from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import IMAGENET_PIXELS, Dataset, DatasetSettings, Validation


class WebdatasetSettings(DatasetSettings):
    """What a suite says of shards.

    `train` and `test` name .tar files, several by a range in braces: `birds/train-{000..011}.tar`. A sample
    is `key.jpg` (.jpeg, .png, .webp) with `key.cls`, a number or a class's name, or with `key.json`, in which
    `label` is the field. `classes` is a JSON file of classes as data set `folder` takes it; without it the
    labels of train are the classes, numbers by value. `label_space` names these classes where a teacher's
    head is for them. `val` is carved from train.
    """

    train: str = Field(min_length=1)
    test: str = Field(min_length=1)
    classes: str | None = Field(default=None, min_length=1)
    label: str = Field(default="label", min_length=1)
    label_space: str | None = Field(default=None, min_length=1)
    val: Validation


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
