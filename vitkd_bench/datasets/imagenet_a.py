"""ImageNet-A: natural adversarial examples (Hendrycks et al., arXiv:1907.07174)."""

from __future__ import annotations

from vitkd_bench.datasets._imagenet import classes_marked
from vitkd_bench.datasets._settings import ShiftRootSettings
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import IMAGENET_PIXELS, Dataset

DATASETS.register(
    Dataset(
        name="imagenet_a",
        title="ImageNet-A, natural adversarial examples",
        source="https://github.com/hendrycks/natural-adv-examples (arXiv:1907.07174)",
        licence="MIT (the repository); the photographers' own for the images",
        reader="wnid_folders",
        channels=3,
        pixels=IMAGENET_PIXELS,
        role="shift",
        classes=classes_marked("a"),
        num_classes=200,
        counts={"test": 7_500},
        label_space="imagenet_a",
        split_rule="all of it is test",
        decode="anew",
        files=("imagenet_a | imagenet-a", "imagenet-a.tar"),
        fetch=("https://people.eecs.berkeley.edu/~hendrycks/imagenet-a.tar",),
        notes="Folders <wnid>. The images were chosen because a ResNet-50 fails on them.",
    ),
    ShiftRootSettings,
)
