"""What released teachers share: where their weights are, how they are described, what they have seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vitkd_bench.registry.placing import by_rules, placed
from vitkd_bench.spec import SIZES, Accuracy, Architecture, Components, Head, WeightSource

IMAGENET_1K = ("imagenet1k", "tiny_imagenet")
"""Tiny ImageNet's pictures are taken from ImageNet-1k, and its classes too."""

IMAGENET_21K = ("imagenet21k", *IMAGENET_1K)
"""The full ImageNet holds the training pictures of the thousand classes."""

IMAGENET_LABELS = Head(kind="labels", label_space="imagenet1k", num_classes=1000)
FACEBOOK = "https://dl.fbaipublicfiles.com"
CROP_256 = 224 / 256  # the shorter side to 256 pixels, the middle 224 kept
TIMM_RESULTS = "huggingface/pytorch-image-models@aa4b585 results/results-imagenet.csv"
# How far the last block's tokens move, as a share of their norm, in eight photographs, with real weights.
TANH_APART = 7e-4  # AugReg ViT-Ti
EPSILON_APART = 2e-5  # DeiT-Ti
RESAMPLED_APART = 0.05  # a ViT-S/14 tuned from DINOv2's, from 37 to 16 patches a side
TANH = (
    "the release computes GELU in its tanh form, this build exactly "
    f"(tokens of ViT-Ti are {TANH_APART:g} of their size apart)"
)
EXACT = (
    "by itself this library computes GELU exactly; the contract's tanh form, the release's, is built "
    f"(tokens of ViT-Ti would be {TANH_APART:g} of their size apart)"
)
EPSILON = (
    "the hub's configuration has norm epsilon 1e-12; the contract's 1e-6, the release's, is used "
    f"(tokens of DeiT-Ti would be {EPSILON_APART:g} of their size apart)"
)
RESAMPLED = (
    "timm itself resamples positions with antialiasing; the contract's way, the release's, is used "
    f"(tokens of a ViT-S/14 would be {RESAMPLED_APART:g} of their size apart)"
)


def vit(
    size: str,
    components: Components | None = None,
    *,
    patch: int = 16,
    image_size: int = 224,
    class_token: bool = True,
    registers: int = 0,
) -> Architecture:
    """Describe a ViT of a named size, at 224 x 224 pixels in patches of 16 unless told otherwise."""
    return Architecture(
        image_size=image_size,
        patch=patch,
        class_token=class_token,
        registers=registers,
        size=SIZES[size],
        components=components or Components(),
    )


def from_timm(model: str, repository: str = "", **more: Any) -> WeightSource:
    """Say that timm builds `model` and the hub has its weights, under timm's name unless told otherwise.

    `more` are fields of `WeightSource`. A head that the contract does not claim need not be named unused.
    """
    where = repository or f"timm/{model}"
    return WeightSource(backend="timm", model=model, location=f"hf://{where}/model.safetensors", **more)


def from_open_clip(model: str, repository: str, unused: Iterable[str], **more: Any) -> WeightSource:
    """Say that open_clip builds `model`; `unused` are the keys of its text tower."""
    location = f"hf://{repository}/open_clip_model.safetensors"
    return WeightSource(backend="open_clip", model=model, location=location, unused=tuple(unused), **more)


def from_transformers(
    model: str, repository: str, unused: Iterable[str] = (), file: str = "model.safetensors", **more: Any
) -> WeightSource:
    """Say that transformers builds the class `model`, and a repository of the hub has its weights."""
    location = f"hf://{repository}/{file}"
    return WeightSource(backend="transformers", model=model, location=location, unused=tuple(unused), **more)


def from_release(model: str, location: str | None, layout: str | None = None, **more: Any) -> WeightSource:
    """Say that the release's own file goes into timm's `model`, renamed by `layout` if its names differ."""
    return WeightSource(backend="official", model=model, location=location, layout=layout, **more)


def accuracy(kind: Any, percent: float, source: str, **more: Any) -> Accuracy:
    """Give a published figure of ImageNet-1k, in percent as it was published."""
    return Accuracy(kind=kind, value=round(percent / 100, 6), source=source, **more)


def renamed(tensors: Mapping[str, Any], rules: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Rename each tensor by the first pattern that fits its whole name; others keep theirs.

    So a key that the file should not have is still there for the strict loading that follows, and is named.

    Raises:
        BadInputError: two tensors would have the same name.
    """
    rules = tuple(rules)
    return placed((name, by_rules(name, rules), tensor) for name, tensor in tensors.items())
