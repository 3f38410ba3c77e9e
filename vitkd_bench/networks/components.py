"""Reads components off a network that was built: what it is, whatever it was asked to be.

timm drops keyword arguments that are None, builds exact GELU for OpenAI's CLIP unless asked by another name,
and loads weights of 12 heads into a network of 6 without a word. So arguments are never
believed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitkd_bench.networks.anatomy import Anatomy, anatomy_to_read, part
from vitkd_bench.networks.positions import fixed_position
from vitkd_bench.networks.rotary import DINOV3_BASE, rotary_embedding
from vitkd_bench.spec import Architecture, BadInputError, Components, Size

STORED_PRECISION = 2e-3  # of a fixed embedding, in [-1, 1], that went through float16
ACTIVATION_NAMES = ("act", "activation_fn", "gelu", "act_fn", "intermediate_act_fn")
SHARED_TABLES = ("rel_pos_bias", "shared_position_bias")  # one relative table for all blocks
PROJECTIONS = ("q_proj", "k_proj", "v_proj")
BIASES_READ = {"qkv", *PROJECTIONS, "query", "key", "value"}  # `qkv_bias` tells of these
ROTARY_SETTINGS = (
    "dim",
    "temperature",
    "in_pixels",
    "ref_feat_shape",
    "grid_offset",
    "grid_indexing",
    "rotate_half",
)
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
}


def read_architecture(module: nn.Module) -> Architecture:
    """Describe a bare ViT of ours, timm, open_clip or transformers; parameters may be on the meta device.

    `layer_scale` is the initial value of the first block's, not what training made of it. `position` is
    `fixed` where the embedding is the 2D sin-cos one at this grid. The activation is known by its values. A
    class token's own position beside registers that have none is part of that token.

    Raises:
        BadInputError: a part that `spec.Components` has no word for (a norm within the MLP, a gate ...), or a
            class that is not known (`anatomy_to_read`).
    """
    anatomy = anatomy_to_read(module)
    blocks = anatomy.blocks_of(module)
    block: Any = blocks[0]
    if anatomy.beyond:
        raise BadInputError(_outline(module, anatomy))
    for other in blocks:
        _refuse_unknown_parts(anatomy, other)
    patch, width = part(module, anatomy.patch), part(module, anatomy.patch).out_channels
    registers = part(module, anatomy.registers)
    gated, hidden = _mlp(part(block, anatomy.mlp))
    found = Architecture(
        channels=patch.in_channels,
        image_size=_side(part(module, anatomy.image_size), "image size"),
        patch=_side(patch.kernel_size, "patch"),
        class_token=part(module, anatomy.class_token) is not None,
        registers=0 if registers is None else registers.shape[1],
        size=Size(
            width=width,
            depth=len(blocks),
            heads=_heads(part(block, anatomy.attention), width),
            mlp_ratio=hidden / width,
        ),
    )
    found = found.with_(components=_components(module, anatomy, found, gated))
    fixed = found.with_(components=found.components.model_copy(update={"position": "fixed"}))
    position = part(module, anatomy.position)
    return fixed if found.components.position == "learned" and _is_fixed(position, fixed) else found


def _outline(module: nn.Module, anatomy: Anatomy) -> str:
    """Say how large a network is, and which part of its class has no word here."""
    blocks = anatomy.blocks_of(module)
    width = part(blocks[0], anatomy.norm).normalized_shape[0]
    heads = _heads(part(blocks[0], anatomy.attention), width)
    return (
        f"{type(module).__name__} of {len(blocks)} blocks, width {width} and {heads} heads: "
        f"{anatomy.beyond}, which no component describes"
    )


def differences(claimed: Architecture, found: Architecture) -> list[str]:
    """Say in which parts `found` is not what is `claimed`, a text a part: `size.heads: 6 claimed, 12 found`.

    Initial values of layer scale are not compared: only whether it is there. A fixed position embedding
    counts as a learned one, since a network with weights from elsewhere holds it as a parameter.
    """
    there = _parts(found)
    return [
        f"{name}: {value} claimed, {there[name]} found"
        for name, value in _parts(claimed).items()
        if there[name] != value
    ]


def _parts(architecture: Architecture) -> dict[str, object]:
    fields = architecture.plain()
    size, components = fields.pop("size"), fields.pop("components")
    there = architecture.components.position != "none"
    components["layer_scale"] = "absent" if components["layer_scale"] is None else "present"
    components["position"] = "present" if there else "absent"
    # says nothing where there is no prefix or no position embedding
    components["position_on_prefix"] &= bool(architecture.prefix and there)
    if components["mlp"] != "plain":
        components.pop("activation")  # the gate decides
    named = {"size": size, "components": components}
    return fields | {f"{group}.{k}": v for group, values in named.items() for k, v in values.items()}


def _components(
    module: nn.Module, anatomy: Anatomy, found: Architecture, gated: Literal["plain", "swiglu", "glu"]
) -> Components:
    block: Any = anatomy.blocks_of(module)[0]
    attention, mlp = part(block, anatomy.attention), part(block, anatomy.mlp)
    position, root = part(module, anatomy.position), module.get_submodule(anatomy.blocks.rpartition(".")[0])
    plain = Components()
    return Components(
        layer_scale=_layer_scale(block, attention),
        norm_pre=isinstance(part(module, anatomy.norm_pre), nn.LayerNorm),
        relative_position_bias=_of(attention, "relative_position_bias_table") is not None
        or any(_of(owner, "relative_position_bias") is not None for owner in (attention, block, root))
        or any(_of(root, name) is not None for name in SHARED_TABLES),
        position="none" if position is None else "learned",
        position_on_prefix=position is None
        or not found.prefix
        or position.shape[-2] == found.grid**2 + found.prefix,
        qkv_bias=_qkv_bias(attention),
        activation=_activation(_first(mlp, *ACTIVATION_NAMES)) if gated == "plain" else plain.activation,
        patch_bias=part(module, anatomy.patch).bias is not None,
        norm_eps=part(block, anatomy.norm).eps,
        rope=_rope(part(module, anatomy.rotary) or _of(root, "rope"), found),
        qk_norm=_is_there(attention, "q_norm"),
        mlp=gated,
    )


def _side(sides: int | tuple[int, ...] | list[int], what: str) -> int:
    both = (sides,) if isinstance(sides, int) else tuple(sides)
    if len(set(both)) != 1:
        raise BadInputError(f"{what}: {both} is not square, which no architecture describes")
    return both[0]


def _heads(attention: Any, width: int) -> int:
    heads: int = _first(attention, "num_heads", "num_attention_heads")
    head_width = _of(attention, "head_dim") or width // heads
    if head_width * heads != width:
        raise BadInputError(
            f"size.heads: {heads} heads of width {head_width} in a model of width {width}, which no "
            "component describes"
        )
    return heads


def _layer_scale(block: Any, attention: Any) -> float | None:
    """Read the initial value of the first of a block's two layer scales, wherever its library keeps it."""
    for name in ("gamma_1", "lambda_1"):  # BEiT's, of timm and of transformers
        if isinstance(_of(block, name), Tensor):
            value = part(block, "init_values")
            return float(value or part(attention, "config.layer_scale_init_value"))
    for name in ("ls1", "ls_1", "layer_scale1"):
        scale = _of(block, name)
        if scale is None or isinstance(scale, nn.Identity):
            continue
        value = _of(scale, "init_values") or part(attention, "config.layerscale_value")
        if value is None and scale.gamma.is_meta:
            raise BadInputError(
                "components.layer_scale: open_clip keeps its initial value in the parameter alone, which is "
                "on the meta device: build the network on a real one"
            )
        return float(scale.gamma[0] if value is None else value)
    return None


def _qkv_bias(attention: Any) -> Literal["full", "qv", "none"]:
    packed = _of(attention, "in_proj_weight")
    if packed is not None:
        return "none" if attention.in_proj_bias is None else "full"
    if _of(attention, "qkv") is not None:
        if attention.qkv.bias is not None:
            return "full"
        return "none" if _of(attention, "q_bias") is None else "qv"
    names = ("query", "key", "value") if _of(attention, "query") is not None else PROJECTIONS
    there = "".join(name[0] for name in names if getattr(attention, name).bias is not None)
    named: dict[str, Literal["full", "qv", "none"]] = {"qkv": "full", "qv": "qv", "": "none"}
    if there not in named:
        raise BadInputError(f"components.qkv_bias: a bias of {there} alone, which no component describes")
    return named[there]


def _rope(rope: nn.Module | None, found: Architecture) -> Literal["none", "eva02", "dinov3"]:
    """Name a rotary embedding by its settings, which are there on the meta device too."""
    if rope is None:
        return "none"
    if type(rope).__name__ == "DINOv3ViTRopePositionEmbedding" and rope.base == DINOV3_BASE:
        return "dinov3"
    forms: tuple[Literal["eva02", "dinov3"], ...] = "eva02", "dinov3"
    for form in forms:
        known = rotary_embedding(found.with_(components=Components(rope=form)))
        if type(rope) is type(known) and _settings(rope) == _settings(known):
            return form
    raise BadInputError(
        f"components.rope: no component describes this {type(rope).__name__}; known: {', '.join(forms)}"
    )


def _settings(rope: Any) -> list[object]:
    values = [_of(rope, name) for name in ROTARY_SETTINGS]
    return [tuple(value) if isinstance(value, list) else value for value in values]


def _mlp(mlp: Any) -> tuple[Literal["plain", "swiglu", "glu"], int]:
    """Say whether an MLP is gated, and give its inner width."""
    if type(mlp).__name__ == "GluMlp":
        gated: Literal["swiglu", "glu"] = "swiglu" if isinstance(mlp.act, nn.SiLU) else "glu"
        return gated, mlp.fc1.out_features // 2
    for name in ("fc1_g", "gate_proj"):
        if _of(mlp, name) is not None:
            return "swiglu" if _is_silu(_first(mlp, "act", "act_fn")) else "glu", getattr(
                mlp, name
            ).out_features
    first = _first(mlp, "fc1", "c_fc", "up_proj", "dense")
    if not isinstance(first, nn.Linear):
        raise BadInputError(
            f"components.mlp: the MLP is a {type(mlp).__name__}, which no component describes"
        )
    return "plain", first.out_features


def _activation(act: nn.Module) -> Literal["gelu", "gelu_tanh", "quick_gelu"]:
    """Name an activation by what it does to numbers."""
    if not any(True for _ in act.parameters()):
        x = torch.linspace(-4, 4, 81, dtype=torch.float64, device="cpu")
        with torch.device("cpu"):
            y = act(x.clone())
        for name, known in ACTIVATIONS.items():
            if torch.allclose(y, known(x), atol=1e-6, rtol=0):
                return name  # type: ignore[return-value]
    raise BadInputError(
        f"components.activation: {type(act).__name__} has no name here; known: {', '.join(ACTIVATIONS)}"
    )


def _is_silu(act: nn.Module) -> bool:
    x = torch.linspace(-4, 4, 81, dtype=torch.float64, device="cpu")
    return torch.allclose(act(x.clone()), F.silu(x), atol=1e-6, rtol=0)


def _is_fixed(position: Tensor, fixed: Architecture) -> bool:
    if fixed.size.width % 4 or position.is_meta:
        return False
    table, held = fixed_position(fixed)[0], position.detach().float().cpu().squeeze(0)
    return table.shape == held.shape and torch.allclose(table, held, atol=STORED_PRECISION)


def _refuse_unknown_parts(anatomy: Anatomy, block: Any) -> None:
    if type(block).__name__ != anatomy.block:
        raise BadInputError(
            f"components: no component describes a {type(block).__name__}; blocks are a {anatomy.block}"
        )
    attention, mlp, norm = (part(block, path) for path in (anatomy.attention, anatomy.mlp, anatomy.norm))
    _refuse_missing_biases(block)
    for owner, place, names in ((attention, "attention", ("norm", "gate", "rope")), (mlp, "MLP", ("norm",))):
        for name in names:
            if _is_there(owner, name):
                raise BadInputError(f"components: the {place} has a {name}, which no component describes")
    if _is_there(attention, "q_norm") != _is_there(attention, "k_norm"):
        raise BadInputError(
            "components.qk_norm: queries or keys alone are normed, which no component describes"
        )
    if not isinstance(norm, nn.LayerNorm):
        raise BadInputError(f"components: the norm is a {type(norm).__name__}, which no component describes")
    if _of(attention, "num_kv_groups") not in {None, 1}:
        raise BadInputError("components: heads share their keys, which no component describes")
    if _of(block, "gamma_1") is not None and _of(block, "gamma_2") is None:
        raise BadInputError(
            "components.layer_scale: it stands after the attention alone, which no component describes"
        )


def _refuse_missing_biases(block: nn.Module) -> None:
    for name, layer in block.named_modules():
        at = name.rpartition(".")[2]
        if isinstance(layer, nn.Linear) and part(layer, "bias") is None and at not in BIASES_READ:
            raise BadInputError(f"components: {name} has no bias, which no component describes")


def _is_there(owner: Any, name: str) -> bool:
    found = _of(owner, name)
    return found is not None and not isinstance(found, nn.Identity)


def _of(owner: Any, name: str) -> Any:
    return getattr(owner, name, None)


def _first(owner: Any, *names: str) -> Any:
    """Give the first of these attributes that is there."""
    return next((found for name in names if (found := _of(owner, name)) is not None), None)
