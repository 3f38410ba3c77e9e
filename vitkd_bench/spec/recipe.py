"""A recipe: optimiser, schedule, augmentation, epochs; shared by all methods of a comparison."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, model_validator

from vitkd_bench.spec.base import Frozen

RAND_AUGMENT = r"rand(-(m\d\d?|n[1-9]|mmax[1-9]\d?|inc[01]|p(0\.\d+|1)|mstd\d+(\.\d+)?|t(weights|3aw?)))*"
"""The settings of RandAugment that timm reads, as a regular expression (timm `data/auto_augment.py`)."""


class Augmentation(Frozen):
    """What happens to a training image; a sample's draw depends on (seed, epoch, sample) alone.

    `shift` moves the image by up to so many native pixels, `flip` mirrors it with probability one half,
    `crop_scale` cuts a box of that share of the area (and resizes it), `erase` is the probability of a
    blanked box (`erase_fill`: zeros, or noise with the mean and deviation of ImageNet's pixels), `noise` the
    standard deviation of added noise, `contrast` the largest relative change of contrast and brightness,
    `rotate` the largest angle in degrees.

    `rand_augment` is timm's name of a setting of RandAugment (`rand-m9-mstd0.5-inc1`; arXiv:1909.13719),
    whose turns and shears read between pixels by `interpolation`; `three_augment` is one of solarising,
    greying and blurring (DeiT III, arXiv:2204.07118); `colour_jitter` the largest relative change of
    brightness, contrast and saturation, in random order.

    `mixup` and `cutmix` are the parameters of the Beta distributions from which a step's share is drawn, 0
    for neither (arXiv:1710.09412, arXiv:1905.04899): with `mixup_probability` a batch is mixed at all, and
    where both are on, with `switch_probability` by cutmix. What is drawn depends on (seed, epoch, step)
    alone. `repeated` shows an image so many times in a row, each time drawn anew, and so many times fewer
    images an epoch (arXiv:1902.05509, as DeiT has it).
    """

    shift: int = Field(default=0, ge=0)
    flip: bool = False
    crop_scale: tuple[float, float] | None = None
    rotate: float = Field(default=0.0, ge=0)
    contrast: float = Field(default=0.0, ge=0, lt=1)
    noise: float = Field(default=0.0, ge=0)
    erase: float = Field(default=0.0, ge=0, le=1)
    erase_fill: Literal["zero", "noise"] = "zero"
    rand_augment: str | None = None
    interpolation: Literal["bicubic", "bilinear", "random"] = "bicubic"
    three_augment: bool = False
    colour_jitter: float = Field(default=0.0, ge=0, le=1)
    mixup: float = Field(default=0.0, ge=0)
    cutmix: float = Field(default=0.0, ge=0)
    mixup_probability: float = Field(default=1.0, gt=0, le=1)
    switch_probability: float = Field(default=0.5, ge=0, le=1)
    repeated: int = Field(default=1, ge=1)

    @property
    def alters_single_images(self) -> bool:
        """Whether anything happens to an image by itself."""
        whole = ("mixup", "cutmix", "mixup_probability", "switch_probability", "repeated")
        return bool(self.declared().keys() - set(whole))

    @property
    def mixes(self) -> bool:
        """Whether images of a batch are mixed, and their labels with them."""
        return self.mixup > 0 or self.cutmix > 0

    @model_validator(mode="after")
    def _ordered(self) -> Augmentation:
        if self.crop_scale and not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(f"crop_scale needs 0 < low <= high <= 1, got {list(self.crop_scale)}")
        return self

    @model_validator(mode="after")
    def _known(self) -> Augmentation:
        if self.rand_augment is not None and not re.fullmatch(RAND_AUGMENT, self.rand_augment):
            raise ValueError(
                f"rand_augment: timm has no setting {self.rand_augment!r}; one such as rand-m9-mstd0.5-inc1"
            )
        if self.rand_augment and self.three_augment:
            raise ValueError("three_augment takes the place of rand_augment: give one of them")
        return self

    @model_validator(mode="after")
    def _acts(self) -> Augmentation:
        """Refuse what would change a run's id and nothing else."""
        both = self.mixup > 0 and self.cutmix > 0
        for name, acts, wanted in (
            ("erase_fill", self.erase > 0, "erase"),
            ("interpolation", self.rand_augment is not None, "rand_augment"),
            ("mixup_probability", self.mixes, "mixup or cutmix"),
            ("switch_probability", both, "both mixup and cutmix"),
        ):
            if not acts and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} says nothing without {wanted}")
        return self


class Recipe(Frozen):
    """How a student is trained. AdamW, linear warm-up, cosine to `min_lr`; last epoch reported.

    `lr` is the peak rate for `batch_size` (not scaled); `clip_grad` a norm; `image_size` the side in pixels
    to which images are brought (None: the data set's own). `eval_crop` is the share of the side of the
    largest centred square that is shown at evaluation; 0.875 is usual at 224 px. `initialisation` is the law
    by which students' weights are drawn, `small` for micro networks (`networks.initialise`). Biases, norms,
    tokens and tables are not decayed. `layer_decay` multiplies the rate of a layer by itself once for each
    layer above it (BEiT, MAE), `ema` is the momentum of an average of the student's weights that is evaluated
    in its place.

    How a step is computed, and not what: `accumulate` parts of a batch one after the other, blocks
    recomputed in the backward pass (`checkpointing`), the student compiled (`compile`), in `precision`. They
    change the last bits, so they stand in a run's id like the rest.
    """

    name: str = ""
    title: str = ""
    source: str = ""
    epochs: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    lr: float = Field(gt=0)
    min_lr: float = Field(default=1e-6, ge=0)
    warmup_epochs: float = Field(default=0.0, ge=0)
    weight_decay: float = Field(default=0.05, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    clip_grad: float | None = Field(default=None, gt=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    image_size: int | None = Field(default=None, gt=0)
    eval_crop: float = Field(default=1.0, gt=0, le=1)
    augmentation: Augmentation = Augmentation()
    initialisation: Literal["timm", "small"] = "timm"
    precision: Literal["float32", "bfloat16"] = "float32"
    layer_decay: float | None = Field(default=None, gt=0, le=1)
    ema: float | None = Field(default=None, ge=0, lt=1)
    accumulate: int = Field(default=1, gt=0)
    checkpointing: bool = False
    compile: bool = False

    @model_validator(mode="after")
    def _parts(self) -> Recipe:
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"accumulate: {self.accumulate} parts do not divide batch_size {self.batch_size}"
            )
        if self.augmentation.repeated > self.batch_size:
            raise ValueError(
                f"augmentation.repeated: {self.augmentation.repeated} views of an image are more than "
                f"batch_size {self.batch_size}"
            )
        return self

    def identity(self) -> dict[str, object]:
        """What of the recipe stands in a run's id: all but its names."""
        return {k: v for k, v in self.declared().items() if k not in {"name", "title", "source"}}
