"""Handwritten digits of scikit-learn: real images inside its wheel (Alpaydin and Kaynak, UCI, 1998)."""

from __future__ import annotations

from pydantic import model_validator

from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import ClassInfo, Dataset, DatasetSettings, PixelStats

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class DigitsSettings(DatasetSettings):
    """Settings of the digits: `subset`. Their val split is fixed."""

    @model_validator(mode="after")
    def _val_is_fixed(self) -> DigitsSettings:
        if self.val is not None:
            raise ValueError("val: the digits have a fixed val split of 15 %; leave this field out")
        return self


DATASETS.register(
    Dataset(
        name="digits",
        title="Handwritten digits, 8 x 8, one channel, 1,797 images",
        source="scikit-learn (sklearn.datasets.load_digits): the test part of UCI's Optical Recognition of "
        "Handwritten Digits, doi:10.24432/C50P49",
        licence="CC-BY-4.0 (UCI); BSD-3-Clause (scikit-learn)",
        reader="digits",
        channels=1,
        image_size=8,
        pixels=PixelStats(mean=(0.3055,), std=(0.3759,)),  # of the train split
        classes=tuple(ClassInfo(name=name) for name in NAMES),
        label_space="digits",
        split_rule="train 60 %, val 15 %, test 25 % of each class, by a hash of the image's id; fixed",
        templates=('a photo of the number: "{}".',),  # MNIST's in openai/CLIP data/prompts.md
        shifts=("rotate", "noise", "blur", "contrast", "invert"),
        augmentation="shift by a pixel, small rotation; no flip: a mirrored digit is none",
        notes="Values 0..16 become 0..255. The split mixes writers, as UCI does not say who wrote which.",
    ),
    DigitsSettings,
)
