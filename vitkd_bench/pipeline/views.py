"""Views: training images augmented, each by draws of its own, and plain ones for evaluation.

All geometry of an image (crop, rotation, flip, shift) is one map from output to input pixels and one
interpolation, and a whole batch goes through `grid_sample` at once: 128 images of 8 px take 0.1 ms where PIL
takes 1.7, and 64 of 112 px 25 ms where PIL's crop alone takes 20. Every operation works on each image apart,
so that a view is the same to the last bit in any batch.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vitkd_bench.pipeline.colours import recoloured
from vitkd_bench.pipeline.draws import normals, uniforms
from vitkd_bench.spec import IMAGENET_PIXELS, Augmentation
from vitkd_bench.spec.seeds import seeded

CROP_RATIO = (3 / 4, 4 / 3)  # width over height of a crop, log-uniform, as torchvision's RandomResizedCrop
ERASE_AREA = (0.02, 1 / 3)  # share of the image, as Zhong et al. (arXiv:1708.04896)
ERASE_RATIO = (0.3, 1 / 0.3)  # the same source

# One row of random numbers for each decision, whether it is taken or not: switching one on moves no other.
_ROWS = (
    "shift_x",
    "shift_y",
    "flip",
    "area",
    "ratio",
    "crop_x",
    "crop_y",
    "rotate",
    "contrast",
    "brightness",
    "erase",
    "erase_area",
    "erase_ratio",
    "erase_x",
    "erase_y",
)

Draws = dict[str, NDArray[np.float64]]
Numbers = NDArray[np.float64]


def plain(images: NDArray[np.uint8]) -> Tensor:
    """Give images (B, C, H, W) uint8 as float32 in [0, 1], not normalised."""
    return torch.from_numpy(images.astype(np.float32)).div_(255)


def augment(
    images: NDArray[np.uint8],
    samples: NDArray[np.int64],
    rule: Augmentation,
    key: int,
    pixel: float = 1.0,
) -> Tensor:
    """Augment a batch; what happens to an image depends on `key` and its number alone.

    In this order: crop, rotation, flip and shift (bicubic, zero outside of the image; exact where only whole
    pixels move), RandAugment or 3-augment and colour jitter (`pipeline.colours`), contrast about the image's
    mean, then brightness, noise, erasing.

    Args:
        images: (B, C, H, W) uint8.
        samples: (B,) position of each image in its split.
        rule: what may happen; see `spec.Augmentation` for units.
        key: the stream of random numbers: seed, epoch and view (`spec.seeds.seeded`).
        pixel: side of a native pixel in pixels of `images`, for `rule.shift`.

    Returns:
        (B, C, H, W) float32 in [0, 1], not normalised.
    """
    drawn = dict(zip(_ROWS, uniforms(key, samples, len(_ROWS)), strict=True))
    flips = drawn["flip"] < 0.5 if rule.flip else np.zeros(len(images), dtype=bool)
    shifts = _shifts(rule, drawn, pixel)
    if rule.crop_scale or rule.rotate:
        pixels = _resample(plain(images), _crops(rule, drawn), _angles(rule, drawn), flips, shifts)
    else:
        pixels = plain(_moved(images, flips, shifts))
    if rule.rand_augment or rule.three_augment or rule.colour_jitter:
        pixels = recoloured(pixels, samples, rule, key)
    if rule.contrast:
        pixels = _contrast(pixels, images, rule.contrast, drawn)
    if rule.noise:
        drawn_noise = normals(seeded(key, "noise"), samples, images[0].size).reshape(images.shape)
        pixels += torch.from_numpy(drawn_noise).mul_(rule.noise)
    if rule.erase:
        boxes = _erased(pixels, rule.erase, drawn)
        if rule.erase_fill == "noise":
            _fill_with_noise(pixels, boxes, samples, seeded(key, "erase"))
    return pixels.clamp_(0, 1)


def flips(rule: Augmentation, samples: NDArray[np.int64], key: int) -> NDArray[np.bool_]:
    """Say which images of a batch (B,) `augment` mirrors."""
    row = _ROWS.index("flip")
    return np.asarray((uniforms(key, samples, row + 1)[row] < 0.5) & rule.flip)


def _shifts(rule: Augmentation, drawn: Draws, pixel: float) -> NDArray[np.int64]:
    """Whole pixels to the right and down, (2, B)."""
    both = np.stack([drawn["shift_x"], drawn["shift_y"]])
    native = np.floor(both * (2 * rule.shift + 1)) - rule.shift
    return np.rint(native * pixel).astype(np.int64)


def _moved(
    images: NDArray[np.uint8], flips: NDArray[np.bool_], shifts: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Mirror and shift by whole pixels, exactly."""
    if not flips.any() and not shifts.any():
        return images
    moved = np.zeros_like(images)
    height, width = images.shape[2:]
    for i, (right, down) in enumerate(shifts.T.tolist()):
        image = images[i, :, :, ::-1] if flips[i] else images[i]
        target = moved[i, :, max(down, 0) : max(height + down, 0), max(right, 0) : max(width + right, 0)]
        target[...] = image[:, max(-down, 0) : max(height - down, 0), max(-right, 0) : max(width - right, 0)]
    return moved


def _box(area: Numbers, ratio: Numbers, limits: tuple[float, float]) -> tuple[Numbers, Numbers]:
    """Width and height, as shares of the image, of boxes of an area and a log-uniform ratio; 1 at most."""
    low, high = (math.log(limit) for limit in limits)
    # the scalar library: numpy's vectors round by where in the batch a number stands
    root = np.array([math.exp((low + (high - low) * u) / 2) for u in ratio])
    return np.minimum(np.sqrt(area) * root, 1), np.minimum(np.sqrt(area) / root, 1)


def _crops(rule: Augmentation, drawn: Draws) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Centre x and y in [-1, 1], width and height as shares of the image, of each image's crop."""
    if rule.crop_scale is None:
        one, zero = np.ones_like(drawn["area"]), np.zeros_like(drawn["area"])
        return zero, zero, one, one
    low, high = rule.crop_scale
    width, height = _box(low + (high - low) * drawn["area"], drawn["ratio"], CROP_RATIO)
    return (2 * drawn["crop_x"] - 1) * (1 - width), (2 * drawn["crop_y"] - 1) * (1 - height), width, height


def _angles(rule: Augmentation, drawn: Draws) -> tuple[Numbers, Numbers] | None:
    """Cosine and sine of each image's rotation."""
    if not rule.rotate:
        return None
    radians = np.radians(rule.rotate * (2 * drawn["rotate"] - 1)).tolist()
    return np.array([math.cos(a) for a in radians]), np.array([math.sin(a) for a in radians])


def _resample(
    pixels: Tensor,
    crops: tuple[Numbers, Numbers, Numbers, Numbers],
    angles: tuple[Numbers, Numbers] | None,
    flips: NDArray[np.bool_],
    shifts: NDArray[np.int64],
) -> Tensor:
    """Interpolate each image where its output pixels come from; -1 to 1 spans the image."""
    height, width = pixels.shape[2:]
    x = _centres(width)[None, None, :] - _column(shifts[0] * (2 / width))
    y = _centres(height)[None, :, None] - _column(shifts[1] * (2 / height))
    x = x * _column(np.where(flips, -1.0, 1.0))
    if angles is not None:
        cosine, sine = (_column(values) for values in angles)
        x, y = cosine * x - sine * y * (height / width), sine * x * (width / height) + cosine * y
    centre_x, centre_y, crop_w, crop_h = (_column(values) for values in crops)
    x, y = centre_x + crop_w * x, centre_y + crop_h * y
    at = torch.stack(torch.broadcast_tensors(x, y), dim=-1)
    # edge pixels continue while interpolating, so that a crop at the edge has no dark rim; beyond it is zero
    taken = F.grid_sample(pixels, at, mode="bicubic", padding_mode="border", align_corners=False)
    if angles is None and not shifts.any():
        return taken
    return taken.mul_(((x.abs() <= 1) & (y.abs() <= 1))[:, None])


def _column(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).view(-1, 1, 1)


def _centres(size: int) -> Tensor:
    return (torch.arange(size, dtype=torch.float32) * 2 + 1) / size - 1


def _contrast(pixels: Tensor, images: NDArray[np.uint8], largest: float, drawn: Draws) -> Tensor:
    """Stretch about the mean of the stored image, then scale: ((x - mean) * contrast + mean) * brightness."""
    contrast, brightness = (1 + largest * (2 * drawn[name] - 1) for name in ("contrast", "brightness"))
    mean = images.sum(axis=(1, 2, 3), dtype=np.int64) / (images[0].size * 255)
    factor, offset = _column(contrast * brightness), _column(mean * (1 - contrast) * brightness)
    return pixels.mul_(factor[..., None]).add_(offset[..., None])


def _erased(pixels: Tensor, probability: float, drawn: Draws) -> dict[int, tuple[slice, slice]]:
    """Blank a box of some of the images, and say which."""
    boxes = {}
    rows, columns = pixels.shape[2:]
    low, high = ERASE_AREA
    width, height = _box(low + (high - low) * drawn["erase_area"], drawn["erase_ratio"], ERASE_RATIO)
    for i in np.flatnonzero(drawn["erase"] < probability).tolist():
        box_w, box_h = max(1, round(width[i] * columns)), max(1, round(height[i] * rows))
        left = math.floor(drawn["erase_x"][i] * (columns - box_w + 1))
        top = math.floor(drawn["erase_y"][i] * (rows - box_h + 1))
        boxes[i] = slice(top, top + box_h), slice(left, left + box_w)
        pixels[i, :, *boxes[i]] = 0
    return boxes


def _fill_with_noise(
    pixels: Tensor, boxes: dict[int, tuple[slice, slice]], samples: NDArray[np.int64], key: int
) -> None:
    """Fill the boxes with noise that is standard normal once ImageNet's mean and deviation are taken off."""
    mean, deviation = (torch.tensor(values) for values in (IMAGENET_PIXELS.mean, IMAGENET_PIXELS.std))
    if pixels.shape[1] != len(mean):
        mean, deviation = mean.mean(), deviation.mean()
    for i, box in boxes.items():
        blank = pixels[i, :, *box]
        drawn = torch.from_numpy(normals(key, samples[i : i + 1], blank.numel())).view(blank.shape)
        blank[...] = mean.view(-1, 1, 1) + deviation.view(-1, 1, 1) * drawn
