"""Teachers: a network built as its contract says, checked against it, with the weights of one file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from vitkd_bench.networks.components import differences, read_architecture
from vitkd_bench.networks.network import ViTNetwork
from vitkd_bench.networks.positions import fixed_position, resample_position, resample_relative
from vitkd_bench.networks.vit import ViT
from vitkd_bench.networks.weights import load_strictly, read_weights
from vitkd_bench.spec import Architecture, BadInputError, Teacher, WeightSource


def load_teacher(
    teacher: Teacher, architecture: Architecture, weights: Path, backend: str | None = None
) -> ViTNetwork:
    """Build a teacher and load its weights: frozen, in eval mode, on the CPU, float32.

    Every tensor of the file must find its place and every place its tensor. Two things are brought into line
    first: a head in the file is left aside where the contract claims none, and position tables are resampled
    to the grid of `architecture`.

    Args:
        teacher: the contract.
        architecture: the contract's own at the image size at which the teacher is used.
        weights: safetensors of any floating type, or a torch checkpoint, under the names of the backend.
        backend: which of the contract's sources builds the network; None takes the first.

    Raises:
        BadInputError: what was built is not what the contract claims (the component is named), or the weights
            do not fit it (the keys are named), or the contract claims a head that the file lacks.
        WorldError: no such file. DamagedFileError: it cannot be read.
    """
    tensors = read_weights(weights)
    module = build_teacher(teacher, architecture, backend)
    where = f"teacher {teacher.name!r}: weights {weights}"
    if teacher.head is None:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("head.")}
    elif "head.weight" not in tensors:
        raise BadInputError(
            f"{where}: no head.weight in the file, but the contract claims one of {teacher.head.num_classes} "
            f"classes ({teacher.head.label_space})"
        )
    load_strictly(module, _at_grid(tensors, module, architecture), where)
    return ViTNetwork(module, architecture, teacher.pixels, frozen=True)


def build_teacher(teacher: Teacher, architecture: Architecture, backend: str | None = None) -> nn.Module:
    """Build the bare network of a teacher, without its weights, and compare it with the contract.

    Raises:
        BadInputError: an unknown timm model, or a part that is not as claimed.
    """
    classes = teacher.head.num_classes if teacher.head else 0
    with torch.random.fork_rng(devices=[]):
        if teacher.training:
            module: nn.Module = ViT(architecture, classes)
        else:
            module = _build_timm(teacher, teacher.source(backend), architecture, classes)
    wrong = differences(architecture, read_architecture(module))
    if wrong:
        raise BadInputError(f"teacher {teacher.name!r}: not what its contract says: {'; '.join(wrong)}")
    return module


def _build_timm(
    teacher: Teacher, source: WeightSource, architecture: Architecture, classes: int
) -> nn.Module:
    asked: dict[str, Any] = {
        **source.arguments,
        "img_size": architecture.image_size,
        "num_classes": classes,
    }
    if architecture.channels != 3:
        asked["in_chans"] = architecture.channels
    try:
        module: nn.Module = timm.create_model(source.model, pretrained=False, **asked)
    except RuntimeError as error:
        raise BadInputError(f"teacher {teacher.name!r}: model: {error}") from None
    for part in module.modules():
        attention: Any = part
        if hasattr(attention, "fused_attn"):
            attention.fused_attn = True  # there the tap stands; an environment variable may have said no
    return module


def _at_grid(
    tensors: Mapping[str, Tensor], module: nn.Module, architecture: Architecture
) -> dict[str, Tensor]:
    """Resample the position tables among `tensors`; our own fixed embedding is computed again instead."""
    at_grid = dict(tensors)
    for name, tensor in tensors.items():
        if name.endswith("relative_position_bias_table"):
            at_grid[name] = resample_relative(tensor, architecture)
        elif name == "pos_embed" and isinstance(module, ViT) and architecture.components.position == "fixed":
            at_grid[name] = fixed_position(architecture)
        elif name == "pos_embed":
            at_grid[name] = resample_position(tensor, architecture)
    return at_grid
