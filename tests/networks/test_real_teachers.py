"""Real weights through the same path: they load whole, and see what they were trained to see."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from vitkd_bench.contracts.taps import LOGITS, attention, tokens
from vitkd_bench.networks import ViTNetwork, load_teacher, weights_sha256
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import PixelStats

FILES = {
    "deit/ti": "deit_tiny_patch16_224",
    "augreg/ti_tinyimagenet": "vit_tiny_patch16_224_tinyimagenet_ft",
    "dinov2/s14": "vit_small_patch14_dinov2_saliency_ft",
}
EVERY_NTH = 10  # of the thousand images: a hundred classes, spread over the hierarchy


@pytest.fixture(scope="module")
def sample(real_data: Path) -> tuple[Tensor, Tensor]:
    """A hundred ImageNet images as DeiT sees them, (100, 3, 224, 224) in [0, 1], and their classes."""
    folder = real_data / "imagenet_sample"
    classes = json.loads((folder / "classes.json").read_text())[::EVERY_NTH]
    labels = torch.tensor([entry["index"] for entry in classes])
    return torch.stack(list(decoded(folder / "images.tar", [c["file"] for c in classes]))), labels


def decoded(archive: Path, names: list[str]) -> Iterator[Tensor]:
    """Decode, bring the shorter side to 248 px, cut 224 px from the middle."""
    with tarfile.open(archive) as tar:
        for name in names:
            file = tar.extractfile(name)
            assert file is not None
            image = Image.open(io.BytesIO(file.read())).convert("RGB")
            resized = tv.resize(image, [248], interpolation=tv.InterpolationMode.BICUBIC)
            yield tv.pil_to_tensor(tv.center_crop(resized, [224, 224])).float() / 255


def load(real_data: Path, name: str, **changes: object) -> ViTNetwork:
    """One of the three real teachers, or one whose contract says something else."""
    teacher = TEACHERS.get(name).model_copy(update=changes)
    return load_teacher(teacher, teacher.architecture, real_data / "weights" / f"{FILES[name]}.safetensors")


def top1(network: ViTNetwork, sample: tuple[Tensor, Tensor]) -> float:
    """Share of the sample that a network classifies right."""
    images, labels = sample
    logits = [network(batch, frozenset({LOGITS})).logits for batch in images.split(25)]
    return float((torch.cat([x for x in logits if x is not None]).argmax(1) == labels).float().mean())


@pytest.mark.parametrize("name", FILES)
def test_real_weights_load_whole(real_data: Path, name: str) -> None:
    """Every tensor of the file is used, the file is the one described, and the facts beside it agree."""
    path = real_data / "weights" / f"{FILES[name]}.safetensors"
    facts = json.loads(path.with_suffix(".json").read_text())
    assert weights_sha256(path) == facts["sha256"]
    teacher, network = TEACHERS.get(name), load(real_data, name)
    assert teacher.pixels.mean == tuple(facts["mean"])
    assert teacher.pixels.std == tuple(facts["std"])
    assert (teacher.head.num_classes if teacher.head else 0) == facts["num_classes"]
    stored_positions = (facts["img_size"] // teacher.architecture.patch) ** 2
    used_positions = teacher.architecture.grid**2
    moved = (stored_positions - used_positions) * teacher.architecture.size.width
    assert sum(p.numel() for p in network.parameters()) == facts["params"] - moved
    features = network(torch.rand(2, 3, 224, 224), frozenset({attention(0), tokens(11)}))
    size = teacher.architecture.size
    assert features.attention[0].q.shape == (2, size.heads, teacher.architecture.tokens, 64)
    assert features.tokens[11].shape == (2, teacher.architecture.tokens, size.width)


def test_deit_recognises_imagenet(real_data: Path, sample: tuple[Tensor, Tensor]) -> None:
    """On a hundred of the thousand images DeiT-Ti is as good as its README says of all: 77.8 % top-1.

    Fed the same pixels on another scale, the same weights are not.
    """
    assert top1(load(real_data, "deit/ti"), sample) == pytest.approx(0.778, abs=0.09)  # two standard errors
    scaled = PixelStats(mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))
    few = sample[0][::4], sample[1][::4]
    assert top1(load(real_data, "deit/ti", pixels=scaled), few) < 0.4
