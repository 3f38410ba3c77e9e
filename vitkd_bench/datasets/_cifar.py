"""What CIFAR-10 and CIFAR-100 share (Krizhevsky, 2009; https://www.cs.toronto.edu/~kriz/cifar.html)."""

from __future__ import annotations

from vitkd_bench.datasets._settings import RootSettings
from vitkd_bench.spec import Carved, ClassInfo, Dataset, PixelStats, Validation


class CifarSettings(RootSettings):
    """Settings of CIFAR: `val` is carved from train, a tenth of each class unless told otherwise."""

    val: Carved = Validation(share=0.1)


def facts_of(name: str, names: tuple[str, ...], pixels: PixelStats, packed: str, unpacked: str) -> Dataset:
    """Give the facts of one of the two: archive `packed`, folder `unpacked`."""
    return Dataset(
        name=name,
        title=f"CIFAR-{len(names)}, 32 x 32",
        source="https://www.cs.toronto.edu/~kriz/cifar.html (Krizhevsky, 2009)",
        licence="none stated; cite Krizhevsky 2009",
        reader="cifar",
        channels=3,
        image_size=32,
        pixels=pixels,
        classes=tuple(ClassInfo(name=each) for each in names),
        num_classes=len(names),
        counts={"train": 50_000, "test": 10_000},
        label_space=name,
        split_rule="train and test as published; val: a tenth of each class of train, by a hash of the "
        "image's number",
        files=(f"{name}", f"{unpacked} | {packed}"),
        fetch=(f"https://www.cs.toronto.edu/~kriz/{packed}",),
        templates=("a photo of a {}.", "a blurry photo of a {}.", "a low resolution photo of a {}."),
        augmentation="flip, crop",
        notes="Python's pickles are read by a reader that knows nothing but numbers, texts, lists and "
        "arrays of bytes: a file that asks for more is refused, and nothing in it is run.",
    )
