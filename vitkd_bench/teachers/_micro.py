"""What all micro teachers share: the digits, their sizes, and how they are made."""

from __future__ import annotations

from typing import Any

from vitkd_bench.spec import SIZES, Architecture, Components, Head, PixelStats, Teacher, Training

DIGITS_PIXELS = PixelStats(mean=(0.3055,), std=(0.3759,))  # of the digits' train split

DIGIT_LABELS = Head(kind="labels", label_space="digits", num_classes=10)
DIGIT_NAMES = Head(kind="text", label_space="digits", num_classes=10)
"""Similarities to the embeddings of the class names, which are the rows of `head.weight`."""


def micro_architecture(
    components: Components | None = None, *, class_token: bool = True, registers: int = 0
) -> Architecture:
    """Describe a ViT of 4 blocks, 48 channels and 3 heads, on 8 x 8 pixels of one channel in patches of 2."""
    return Architecture(
        channels=1,
        image_size=8,
        patch=2,
        class_token=class_token,
        registers=registers,
        size=SIZES["micro"],
        components=components or Components(),
    )


def made_from_digits(method: str, recipe: str = "micro_pretrain", reads: str | None = None) -> dict[str, Any]:
    """Give the fields in which every micro teacher's contract is the same.

    Args:
        method: the method of kind `pretraining` that makes it.
        recipe: how long, and with which augmentation.
        reads: the teacher that the objective itself reads.
    """
    return {
        "group": "micro",
        "licence": "Apache-2.0",
        "pixels": DIGITS_PIXELS,
        "data": "digits of scikit-learn",
        "seen": ("digits",),
        "training": Training(method=method, recipe=recipe, dataset="digits", teacher=reads),
    }


def two_sizes(teacher: Teacher) -> tuple[Teacher, Teacher]:
    """Give a family's micro teacher, and beside it `<name>_large`: 6 blocks, 64 channels, 4 heads.

    The two differ in size alone, so that what a family does can be seen at more than one.
    """
    architecture = teacher.architecture.with_(size=SIZES["micro_large"])
    named = {"name": f"{teacher.name}_large", "title": f"{teacher.title} large"}
    return teacher, Teacher.model_validate({**dict(teacher), **named, "architecture": architecture})
