"""ImageNet-Sketch: black and white sketches of all 1,000 classes (Wang et al., arXiv:1905.13549)."""

from __future__ import annotations

from vitkd_bench.datasets._imagenet import classes_marked
from vitkd_bench.datasets._settings import ShiftRootSettings
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import IMAGENET_PIXELS, Dataset

DATASETS.register(
    Dataset(
        name="imagenet_sketch",
        title="ImageNet-Sketch",
        source="https://github.com/HaohanWang/ImageNet-Sketch (arXiv:1905.13549)",
        licence="MIT (the repository); none stated for the images",
        reader="wnid_folders",
        channels=3,
        pixels=IMAGENET_PIXELS,
        role="shift",
        classes=classes_marked(),
        num_classes=1000,
        counts={"test": 50_889},
        label_space="imagenet1k",
        split_rule="all of it is test",
        decode="anew",
        files=("imagenet_sketch | imagenet-sketch | sketch", "ImageNet-Sketch.zip"),
        fetch=(
            "https://huggingface.co/datasets/songweig/imagenet_sketch/resolve/main/data/ImageNet-Sketch.zip",
        ),
        templates=("a sketch of a {}.",),
        notes="Folders <wnid>, in the zip below sketch/.",
    ),
    ShiftRootSettings,
)
