"""ImageNet-1k, ILSVRC-2012 (Russakovsky et al., arXiv:1409.0575; https://image-net.org)."""

from __future__ import annotations

from vitkd_bench.datasets._imagenet import CLASSES, SPACE
from vitkd_bench.datasets._settings import RootSettings
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import IMAGENET_PIXELS, Carved, Dataset, Validation


class ImagenetSettings(RootSettings):
    """Settings of ImageNet-1k: `val` is carved from train, ten images of each class unless told otherwise."""

    val: Carved = Validation(per_class=10)


DATASETS.register(
    Dataset(
        name="imagenet1k",
        title="ImageNet-1k (ILSVRC-2012)",
        source="https://image-net.org/challenges/LSVRC/2012/ (arXiv:1409.0575)",
        licence="image-net.org terms of access: non-commercial research and education; photographers keep "
        "their rights",
        reader="imagenet",
        channels=3,
        pixels=IMAGENET_PIXELS,
        classes=CLASSES,
        num_classes=1000,
        counts={"train": 1_281_167, "test": 50_000},
        label_space=SPACE,
        split_rule="test: the official validation set, as the test labels are not public; val: ten images of "
        "each class of train, by a hash of the image's id",
        decode="anew",
        files=(
            "imagenet1k | imagenet | ILSVRC2012",
            "train | ILSVRC2012_img_train.tar",
            "val | ILSVRC2012_img_val.tar",
        ),
        manual="register at https://image-net.org/download-images and get ILSVRC2012_img_train.tar (138 GB), "
        "ILSVRC2012_img_val.tar (6.3 GB) and ILSVRC2012_devkit_t12.tar.gz",
        augmentation="flip, crop",
        notes="Folders are train/<wnid> and val/<wnid>. The tars are read in place, nothing is unpacked: the "
        "one of train holds a tar a class; the one of val is flat, so its labels come from the devkit, whose "
        "numbers 1 to 1000 are in another order than the sorted wnids that stand for the classes here. "
        "torchvision's reader unpacks the tars, timm's reads no nested or unlabelled ones: ours reads both.",
    ),
    ImagenetSettings,
)
