"""RandAugment and 3-augment by timm, and colour jitter: what happens to images of 8 bits, each by itself.

timm draws from global generators. They are started anew for each image, at a word that depends on the stream
and the image's number alone, and are left as they were found.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from itertools import permutations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from torch import Tensor

from vitkd_bench.pipeline.draws import bits, global_generators, uniforms
from vitkd_bench.spec import IMAGENET_PIXELS, Augmentation, BadInputError
from vitkd_bench.spec.seeds import seeded

Operation = Callable[[Image.Image], Image.Image]

RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
"""timm chooses between the two by itself (`random`) where it is given neither."""

JITTERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
ORDERS = tuple(permutations(range(len(JITTERS))))
FILL = tuple(round(255 * mean) for mean in IMAGENET_PIXELS.mean)  # where turned images have no pixel
TRANSLATION = 0.45  # largest, as a share of the side (timm `data/transforms_factory.py`)


def recoloured(pixels: Tensor, samples: NDArray[np.int64], rule: Augmentation, key: int) -> Tensor:
    """Apply `rand_augment` or `three_augment` and then `colour_jitter` to a batch.

    Args:
        pixels: (B, C, H, W) float32 in [0, 1], C 1 or 3; rounded to 8 bits, which PIL works in.
        samples: (B,) number of each image.
        rule: what may happen.
        key: the stream of random numbers.

    Returns:
        (B, C, H, W) float32 in [0, 1]: multiples of 1 / 255.

    Raises:
        BadInputError: images have neither one nor three channels.
    """
    if pixels.shape[1] not in {1, 3}:
        raise BadInputError(
            f"augmentation: rand_augment, three_augment and colour_jitter are for 1 or 3 channels, "
            f"not {pixels.shape[1]}"
        )
    policy = _policy(rule, min(pixels.shape[2:]))
    starts = bits(seeded(key, "policy"), samples, 1)[0].tolist()
    jitter = uniforms(seeded(key, "colour_jitter"), samples, 1 + len(JITTERS)).T
    images = pixels.mul(255).round_().clamp_(0, 255).byte().permute(0, 2, 3, 1).numpy()
    found = np.empty_like(images)
    with global_generators() as start:
        for i, image in enumerate(images):
            start(starts[i])
            changed = _jittered(policy(_opened(image)), rule.colour_jitter, jitter[i].tolist())
            found[i] = _closed(changed, image.shape[-1])
    return torch.from_numpy(found).permute(0, 3, 1, 2).float().div_(255).contiguous()


@cache
def _policy(rule: Augmentation, side: int) -> Operation:
    """Make what timm calls an augmentation, for images of `side` pixels; it keeps no state."""
    from timm.data.auto_augment import auto_augment_transform, rand_augment_transform

    settings = {"translate_const": int(side * TRANSLATION), "img_mean": FILL}
    if rule.interpolation != "random":
        settings["interpolation"] = RESAMPLING[rule.interpolation]
    if rule.rand_augment is not None:
        made: Operation = _with_black(rand_augment_transform(rule.rand_augment, settings))
    elif rule.three_augment:
        made = auto_augment_transform("3a", settings)
    else:
        made = _unchanged
    return made


def _with_black(policy: Any) -> Operation:
    """Let posterising leave no bit, as timm asks for at full strength: black, which PIL 13 refuses."""
    for operation in policy.ops:
        if operation.name.startswith("Posterize"):
            operation.aug_fn = partial(_posterised, operation.aug_fn)
    made: Operation = policy
    return made


def _posterised(
    posterise: Callable[..., Image.Image], image: Image.Image, bits: int, **_: Any
) -> Image.Image:
    return posterise(image, bits) if bits > 0 else Image.new(image.mode, image.size)


def _unchanged(image: Image.Image) -> Image.Image:
    return image


def _jittered(image: Image.Image, largest: float, drawn: list[float]) -> Image.Image:
    """Scale brightness, contrast and saturation, each by 1 - `largest` to 1 + `largest`, in a drawn order."""
    if not largest:
        return image
    order, *factors = drawn
    for which in ORDERS[int(order * len(ORDERS))]:
        image = JITTERS[which](image).enhance(1 + largest * (2 * factors[which] - 1))
    return image


def _opened(image: NDArray[np.uint8]) -> Image.Image:
    """Give (H, W, C) in colour: timm's fill, and some of its operations, ask for three channels."""
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3))))


def _closed(image: Image.Image, channels: int) -> NDArray[np.uint8]:
    return np.asarray(image) if channels == 3 else np.asarray(image.convert("L"))[..., None]
