"""Networks of timm: for its own checkpoints, and for official files that are renamed to them."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn

from vitkd_bench.spec import Architecture, BadInputError, Teacher, WeightSource


def build_timm(teacher: Teacher, source: WeightSource, architecture: Architecture) -> nn.Module:
    """Build the timm model of a source with its arguments, at the architecture's image size.

    Raises:
        BadInputError: timm knows no such model, or one of the arguments is not its own.
    """
    asked: dict[str, Any] = {
        **source.arguments,
        "img_size": architecture.image_size,
        "num_classes": teacher.head.num_classes if teacher.head else 0,
    }
    if architecture.channels != 3:
        asked["in_chans"] = architecture.channels
    try:
        module: nn.Module = timm.create_model(source.model, pretrained=False, **asked)
    except (RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise BadInputError(f"teacher {teacher.name!r}: model: timm {source.model!r}: {reason}") from None
    fuse_attention(module)
    return module


def fuse_attention(module: nn.Module) -> None:
    """Let timm's attention call the fused function, where the tap stands; the environment may say no."""
    for part in module.modules():
        attention: Any = part
        if hasattr(attention, "fused_attn"):
            attention.fused_attn = True
