"""How far a library's own default would move tokens: the contracts' figures, measured on real weights."""

import io
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from tests.networks.library_names import as_stored
from vitkd_bench.contracts.taps import tokens
from vitkd_bench.networks import load_teacher
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import Teacher
from vitkd_bench.teachers._released import EPSILON_APART, RESAMPLED_APART, TANH_APART

LAST = tokens(11)
FEW = 8


@pytest.fixture(scope="module")
def pixels(real_data: Path) -> Tensor:
    """Eight real images, squeezed to 224 x 224 pixels."""
    images: list[Tensor] = []
    with tarfile.open(real_data / "imagenet_sample" / "images.tar") as tar:
        while len(images) < FEW:
            member = tar.next()
            assert member is not None
            file = (
                tar.extractfile(member) if member.name.lower().endswith((".jpg", ".jpeg", ".webp")) else None
            )
            if file is not None:
                image = Image.open(io.BytesIO(file.read())).convert("RGB").resize((224, 224))
                images.append(tv.pil_to_tensor(image).float() / 255)
    return torch.stack(images)


def changed(teacher: Teacher, arguments: dict[str, object], **components: object) -> Teacher:
    """The same teacher under a contract that says what a library builds by default."""
    source = teacher.sources[0]
    told = source.model_copy(update={"arguments": {**source.arguments, **arguments}})
    parts = teacher.architecture.components.model_copy(update=components)
    architecture = teacher.architecture.with_(components=parts)
    return teacher.model_copy(update={"sources": (told,), "architecture": architecture})


def apart(one: Teacher, other: Teacher, path: Path, pixels: Tensor) -> float:
    """How far the last block's tokens are from each other, over their size."""
    seen = [load_teacher(t, t.architecture, path)(pixels, frozenset({LAST})).tokens[11] for t in (one, other)]
    return float((seen[0] - seen[1]).norm() / seen[0].norm())


def test_gelu_in_its_tanh_form(real_data: Path, pixels: Tensor) -> None:
    """AugReg and SigLIP were trained with it; timm and open_clip compute GELU exactly."""
    exact = TEACHERS.get("augreg/ti_tinyimagenet")
    tanh = changed(exact, {"act_layer": "gelu_tanh"}, activation="gelu_tanh")
    path = real_data / "weights" / "vit_tiny_patch16_224_tinyimagenet_ft.safetensors"
    assert TANH_APART / 1.5 < apart(exact, tanh, path, pixels) < 1.5 * TANH_APART


def test_the_epsilon_of_the_hub_s_configuration(real_data: Path, pixels: Tensor, tmp_path: Path) -> None:
    """The hub's configurations say 1e-12 where the releases say 1e-6."""
    release = TEACHERS.get("deit/ti")
    release = release.model_copy(update={"sources": (release.source("transformers"),)})
    hub = changed(release, {"layer_norm_eps": 1e-12}, norm_eps=1e-12)
    state = load_file(real_data / "weights" / "deit_tiny_patch16_224.safetensors")
    named = as_stored(release, "transformers", state)
    save_file({name: tensor.contiguous() for name, tensor in named.items()}, tmp_path / "model.safetensors")
    assert EPSILON_APART / 1.5 < apart(release, hub, tmp_path, pixels) < 1.5 * EPSILON_APART


def test_positions_resampled_timm_s_way(real_data: Path, pixels: Tensor) -> None:
    """From 37 to 16 patches a side, where the release neither antialiases nor asks for 16 exactly."""
    release = TEACHERS.get("dinov2/s14")
    timm = release.model_copy(update={"position_interpolation": "timm"})
    path = real_data / "weights" / "vit_small_patch14_dinov2_saliency_ft.safetensors"
    assert RESAMPLED_APART / 1.5 < apart(release, timm, path, pixels) < 1.5 * RESAMPLED_APART


def test_contracts_quote_the_figures() -> None:
    """Where a source's default differs in one of these parts, the figure stands in the contract."""
    said = {
        (teacher.name, str(source.backend)): " ".join(source.differs)
        for teacher in TEACHERS
        for source in teacher.sources
    }
    for key, figure in {
        ("augreg/s", "timm"): TANH_APART,
        ("siglip2/b16", "timm"): TANH_APART,
        ("siglip2/b16", "open_clip"): TANH_APART,
        ("dino/s", "transformers"): EPSILON_APART,
        ("mae/b", "transformers"): EPSILON_APART,
        ("dinov2/s14", "timm"): RESAMPLED_APART,
    }.items():
        assert f"{figure:g} of their size apart" in said[key], key
    assert said["siglip2/b16", "transformers"] == ""
