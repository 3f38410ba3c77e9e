"""Reads components off a network that was built: what it is, whatever it was asked to be.

timm drops keyword arguments that are None, builds exact GELU for OpenAI's CLIP unless asked by another name,
and loads weights of 12 heads into a network of 6 without a word. So arguments are never
believed.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from timm.layers import GELU, GELUTanh, LayerScale, Mlp, QuickGELU
from torch import nn

from vitkd_bench.networks.positions import fixed_position
from vitkd_bench.spec import Architecture, BadInputError, Components, Size

STORED_PRECISION = 2e-3  # of a fixed embedding, in [-1, 1], that went through float16


def read_architecture(module: nn.Module) -> Architecture:
    """Describe a bare ViT: ours, timm's `VisionTransformer` or timm's `Beit`.

    `layer_scale` is the initial value of the first block's, not what training made of it. `position` is
    `fixed` where the embedding is the 2D sin-cos one at this grid.

    Raises:
        BadInputError: a part that `spec.Components` has no word for (norms of q and k, a gated MLP ...).
    """
    net: Any = module
    block = net.blocks[0]
    _refuse_unknown_parts(block)
    registers = _of(net, "reg_token")
    found = Architecture(
        channels=net.patch_embed.proj.in_channels,
        image_size=net.patch_embed.img_size[0],
        patch=net.patch_embed.patch_size[0],
        class_token=_of(net, "cls_token") is not None,
        registers=0 if registers is None else registers.shape[1],
        size=Size(
            width=net.patch_embed.proj.out_channels,
            depth=len(net.blocks),
            heads=block.attn.num_heads,
            mlp_ratio=block.mlp.fc1.out_features / net.patch_embed.proj.out_channels,
        ),
        components=_components(net, block),
    )
    fixed = found.with_(components=found.components.model_copy(update={"position": "fixed"}))
    return fixed if found.components.position == "learned" and _is_fixed(net, fixed) else found


def differences(claimed: Architecture, found: Architecture) -> list[str]:
    """Say in which parts `found` is not what is `claimed`, a text a part: `size.heads: 6 claimed, 12 found`.

    Initial values of layer scale are not compared: only whether it is there. A fixed position embedding
    counts as a learned one, since a network with weights from elsewhere holds it as a parameter.
    """
    there = _parts(found)
    return [
        f"{part}: {value} claimed, {there[part]} found"
        for part, value in _parts(claimed).items()
        if there[part] != value
    ]


def _parts(architecture: Architecture) -> dict[str, object]:
    fields = architecture.plain()
    size, components = fields.pop("size"), fields.pop("components")
    there = architecture.components.position != "none"
    components["layer_scale"] = "absent" if components["layer_scale"] is None else "present"
    components["position"] = "present" if there else "absent"
    # says nothing where there is no prefix or no position embedding
    components["position_on_prefix"] &= bool(architecture.prefix and there)
    named = {"size": size, "components": components}
    return fields | {f"{group}.{k}": v for group, values in named.items() for k, v in values.items()}


def _components(net: Any, block: Any) -> Components:
    position = _of(net, "pos_embed")
    grid_tokens = net.patch_embed.num_patches
    prefix = [token for token in ("cls_token", "reg_token") if _of(net, token) is not None]
    return Components(
        layer_scale=_layer_scale(block),
        norm_pre=isinstance(_of(net, "norm_pre"), nn.LayerNorm),
        relative_position_bias=any(
            table is not None
            for table in (_of(net, "rel_pos_bias"), _of(block.attn, "relative_position_bias_table"))
        ),
        position="none" if position is None else "learned",
        position_on_prefix=position is None or not prefix or position.shape[1] > grid_tokens,
        qkv_bias=_qkv_bias(block.attn),
        activation=_activation(block.mlp.act),
        patch_bias=net.patch_embed.proj.bias is not None,
        norm_eps=block.norm1.eps,
    )


def _layer_scale(block: Any) -> float | None:
    scale = _of(block, "ls1")
    if isinstance(scale, LayerScale):
        return float(scale.init_values)
    return float(block.init_values) if _of(block, "gamma_1") is not None else None


def _qkv_bias(attn: Any) -> Literal["full", "qv", "none"]:
    if attn.qkv.bias is not None:
        return "full"
    return "none" if _of(attn, "q_bias") is None else "qv"


def _activation(act: nn.Module) -> Literal["gelu", "gelu_tanh", "quick_gelu"]:
    if isinstance(act, QuickGELU):
        return "quick_gelu"
    if isinstance(act, GELUTanh) or (isinstance(act, nn.GELU) and act.approximate == "tanh"):
        return "gelu_tanh"
    if isinstance(act, nn.GELU | GELU):
        return "gelu"
    raise BadInputError(
        f"components.activation: {type(act).__name__} has no name here; known: gelu, gelu_tanh, quick_gelu"
    )


def _is_fixed(net: Any, fixed: Architecture) -> bool:
    if fixed.size.width % 4:
        return False
    table, position = fixed_position(fixed), net.pos_embed.detach().float().cpu()
    return table.shape == position.shape and torch.allclose(table, position, atol=STORED_PRECISION)


def _refuse_unknown_parts(block: Any) -> None:
    for name in ("q_norm", "k_norm", "norm", "gate", "rope"):
        part = _of(block.attn, name)
        if part is not None and not isinstance(part, nn.Identity):
            raise BadInputError(f"components: the attention has a {name}, which no component describes")
    if not isinstance(block.mlp, Mlp):
        raise BadInputError(
            f"components: the MLP is a {type(block.mlp).__name__}, which no component describes"
        )


def _of(owner: Any, name: str) -> Any:
    return getattr(owner, name, None)
