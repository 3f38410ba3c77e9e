"""ImageNet-R: renditions, such as paintings, toys and tattoos (Hendrycks et al., arXiv:2006.16241)."""

from __future__ import annotations

from vitkd_bench.datasets._imagenet import classes_marked
from vitkd_bench.datasets._settings import ShiftRootSettings
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import IMAGENET_PIXELS, Dataset

DATASETS.register(
    Dataset(
        name="imagenet_r",
        title="ImageNet-R, renditions",
        source="https://github.com/hendrycks/imagenet-r (arXiv:2006.16241)",
        licence="MIT (the repository); the artists' own for the images",
        reader="wnid_folders",
        channels=3,
        pixels=IMAGENET_PIXELS,
        role="shift",
        classes=classes_marked("r"),
        num_classes=200,
        counts={"test": 30_000},
        label_space="imagenet_r",
        split_rule="all of it is test",
        decode="anew",
        files=("imagenet_r | imagenet-r", "imagenet-r.tar"),
        fetch=("https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar",),
        templates=("a rendition of a {}.",),
        notes="Folders <wnid>; 200 classes, another list than ImageNet-A's: 86 are on both.",
    ),
    ShiftRootSettings,
)
