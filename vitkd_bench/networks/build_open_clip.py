"""Vision towers of open_clip, without the text tower and without the projection to it."""

from __future__ import annotations

from typing import Any

from timm.layers import get_act_layer
from torch import nn

from vitkd_bench.networks.build_timm import fuse_attention
from vitkd_bench.networks.components import read_architecture
from vitkd_bench.networks.optional import optional_package
from vitkd_bench.spec import Architecture, BadInputError, Teacher, WeightSource, nearest

OF_THE_MODEL = ("embed_dim", "quick_gelu")  # all other arguments are of its `vision_cfg`


def build_open_clip(teacher: Teacher, source: WeightSource, architecture: Architecture) -> nn.Module:
    """Build the vision tower of an open_clip model, at the architecture's image size.

    `arguments` change fields of the model's `vision_cfg`, or `embed_dim` and `quick_gelu`. open_clip gives a
    tower of timm no other activation than timm's default: there the contract's is put in its place.

    Raises:
        BadInputError: open_clip knows no such model or field, or the contract claims a head or other than
            three channels. WorldError: open_clip is not installed.
    """
    open_clip = optional_package("open_clip", "open-clip-torch", teacher)
    where = f"teacher {teacher.name!r}: model: open_clip {source.model!r}"
    config = open_clip.get_model_config(source.model)
    if config is None:
        raise BadInputError(f"{where}: no such model{nearest(source.model, open_clip.list_models())}")
    if teacher.head is not None:
        raise BadInputError(f"{where}: a tower of open_clip has no head, but the contract claims one")
    own = {name: source.arguments.get(name, config.get(name)) for name in OF_THE_MODEL}
    changed = {name: value for name, value in source.arguments.items() if name not in OF_THE_MODEL}
    try:
        vision = open_clip.CLIPVisionCfg(
            **{**config["vision_cfg"], **changed, "image_size": architecture.image_size}
        )
    except TypeError as error:
        raise BadInputError(f"{where}: {error}") from None
    if architecture.channels != 3:
        raise BadInputError(f"{where}: its towers have 3 channels, not {architecture.channels}")
    tower: Any = open_clip.model._build_vision_tower(  # noqa: SLF001  (the model builds it with a text tower)
        own["embed_dim"], vision, quick_gelu=bool(own["quick_gelu"])
    )
    if hasattr(tower, "trunk"):
        _fit_trunk(tower, architecture)
    else:
        tower.proj = None
    module: nn.Module = tower
    return module


def _fit_trunk(tower: Any, architecture: Architecture) -> None:
    """Bring a tower of timm to the image size and activation; leave its projection out."""
    tower.head = nn.Sequential()
    tower.trunk.set_input_size(img_size=architecture.image_size)
    fuse_attention(tower)
    claimed = architecture.components
    if claimed.mlp == "plain" and read_architecture(tower).components.activation != claimed.activation:
        for part in tower.modules():
            if isinstance(getattr(part, "act", None), nn.Module):
                part.act = get_act_layer(claimed.activation)()
