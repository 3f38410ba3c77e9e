"""Tiny ImageNet: 200 classes of ImageNet at 64 x 64 (Stanford CS231n, 2015)."""

from __future__ import annotations

from vitkd_bench.datasets._imagenet import classes_marked
from vitkd_bench.datasets._settings import RootSettings
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import IMAGENET_PIXELS, Carved, Dataset, Validation


class TinyImagenetSettings(RootSettings):
    """Settings of Tiny ImageNet: `val` is carved from train, 25 images a class unless told otherwise."""

    val: Carved = Validation(per_class=25)


DATASETS.register(
    Dataset(
        name="tiny_imagenet",
        title="Tiny ImageNet, 64 x 64",
        source="https://cs231n.stanford.edu/tiny-imagenet-200.zip (Stanford CS231n, 2015)",
        licence="none stated; a reduced copy of ImageNet: non-commercial research and education",
        reader="tiny_imagenet",
        channels=3,
        image_size=64,
        pixels=IMAGENET_PIXELS,
        classes=classes_marked("t"),
        num_classes=200,
        counts={"train": 100_000, "test": 10_000},
        label_space="tiny_imagenet200",
        split_rule="test: the official val part, as the test labels are not public; val: 25 images of each "
        "class of train, by a hash of the image's id",
        files=("tiny_imagenet", "tiny-imagenet-200 | tiny-imagenet-200.zip"),
        fetch=("https://cs231n.stanford.edu/tiny-imagenet-200.zip",),
        augmentation="flip, crop",
        notes="Classes in sorted order of their wnids, not of wnids.txt. The labels of val are those of "
        "val_annotations.txt; its images are in one folder, which ImageFolder takes for one class. Two "
        "images stand in two classes each. Teachers trained on ImageNet have seen the images at full size.",
    ),
    TinyImagenetSettings,
)
