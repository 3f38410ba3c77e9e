"""ImageNet-V2: the test set collected anew, in three samplings (Recht et al., arXiv:1902.10811)."""

from __future__ import annotations

from vitkd_bench.datasets._imagenet import classes_marked
from vitkd_bench.datasets._settings import ShiftRootSettings
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import IMAGENET_PIXELS, Dataset

SAMPLINGS = {
    "imagenet_v2": ("imagenetv2-matched-frequency", "as often chosen by annotators as the original's"),
    "imagenet_v2_threshold": ("imagenetv2-threshold0.7", "chosen by at least 70 % of the annotators"),
    "imagenet_v2_top": ("imagenetv2-top-images", "those that annotators chose most often"),
}
"""Name of the archive, and what was sampled."""

for _name, (_archive, _sampling) in SAMPLINGS.items():
    DATASETS.register(
        Dataset(
            name=_name,
            title=f"ImageNet-V2, {_archive.removeprefix('imagenetv2-')}",
            source="https://github.com/modestyachts/ImageNetV2 (arXiv:1902.10811)",
            licence="MIT (the repository); the photographers' own for the images",
            reader="index_folders",
            channels=3,
            pixels=IMAGENET_PIXELS,
            role="shift",
            classes=classes_marked(),
            num_classes=1000,
            counts={"test": 10_000},
            label_space="imagenet1k",
            split_rule="all of it is test",
            decode="anew",
            files=(f"{_name} | {_archive} | {_archive}-format-val", f"{_archive}.tar.gz"),
            fetch=(f"https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main/{_archive}.tar.gz",),
            notes=f"Images: {_sampling}. Folders 0 to 999 are class indices: sorted as text, as ImageFolder "
            "does, 10 comes before 2 and 988 of 1,000 classes are mislabelled, so our reader counts.",
        ),
        ShiftRootSettings,
    )
