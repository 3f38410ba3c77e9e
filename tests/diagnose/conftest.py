"""The real DeiT-Ti as the README beside its weights measured it, images for it, and files gone wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vitkd_bench.diagnose import LabelledImages, read_labelled
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import Size, Teacher

FEW = 24


@pytest.fixture(scope="session")
def deit() -> Teacher:
    """DeiT-Ti, evaluated as the figures beside the images were: shorter side 248, crop 224."""
    return TEACHERS.get("deit/ti").model_copy(update={"crop": 0.9})


@pytest.fixture(scope="session")
def six_heads(deit: Teacher) -> Teacher:
    """The contract of somebody who takes DeiT-Ti for a ViT of six heads: every shape fits."""
    at = deit.architecture.with_(size=Size(width=192, depth=12, heads=6))
    source = next(s for s in deit.sources if s.backend == "timm")
    source = source.model_copy(update={"arguments": {"num_heads": 6}})
    return deit.model_copy(update={"architecture": at, "sources": (source,)})


@pytest.fixture(scope="session")
def deit_weights(real_data: Path) -> Path:
    """The real file."""
    return real_data / "weights" / "deit_tiny_patch16_224.safetensors"


@pytest.fixture(scope="session")
def photographs(real_data: Path) -> LabelledImages:
    """Two dozen of the thousand ImageNet images, spread over the classes."""
    return read_labelled(real_data / "imagenet_sample", FEW)


@pytest.fixture
def altered(deit_weights: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the real file with some tensors changed."""

    def write(change: Callable[[str, torch.Tensor], torch.Tensor]) -> Path:
        path = tmp_path / "altered.safetensors"
        save_file({k: change(k, t).contiguous() for k, t in load_file(deit_weights).items()}, path)
        return path

    return write
