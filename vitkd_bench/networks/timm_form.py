"""Which of timm's models computes what a student computes, and from which arguments it is built.

timm has no single class with every component, and none takes a norm's epsilon as plain data: the functions
that build its models set it. So a form is one of four classes, a function of timm that builds it with the
right epsilon, and arguments that overrule the rest of what that function says (timm 1.0.31
`models/vision_transformer.py`, `models/eva.py`, `models/beit.py`, `models/vision_transformer_relpos.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vitkd_bench.networks.rotary import DINOV3_BASE, EVA02_GRID
from vitkd_bench.spec import Architecture, BadInputError

EVA02_BASE = 10_000.0  # the longest period over the shortest
Layout = Literal["packed", "apart"]
"""Biases of query, key and value in one vector; or of query and value, each its own, and none of the key."""


@dataclass(frozen=True, slots=True)
class TimmClass:
    """One of timm's classes: what builds it, by epsilon of the norms, and which parts it takes.

    `takes` names those fields of an architecture and its components that are not free, with the values that
    they can have here.
    """

    name: str
    builders: Mapping[float, str]
    takes: Mapping[str, tuple[object, ...]]
    arguments: Callable[[Architecture], dict[str, Any]]
    layout: Callable[[Architecture], Layout]

    def lacks(self, architecture: Architecture) -> list[str]:
        """Name the parts of an architecture that this class has no place for, as `part=value`."""
        parts = _parts(architecture)
        wanted = {**self.takes, "norm_eps": tuple(self.builders)}
        return [f"{part}={parts[part]}" for part, values in wanted.items() if parts[part] not in values]


@dataclass(frozen=True, slots=True)
class TimmForm:
    """A model of timm: its class, the function that builds it (`timm.create_model`), and plain arguments."""

    of: TimmClass
    architecture: str
    model_args: dict[str, Any]


def timm_form(architecture: Architecture, num_classes: int) -> TimmForm:
    """Find the model of timm that computes the same function of normalised pixels, given weights in its form.

    Args:
        architecture: a student's.
        num_classes: outputs of its head; 0 if it has none.

    Raises:
        BadInputError: no model of timm has all of these parts; names what keeps each class from it.
    """
    lacking = {each.name: each.lacks(architecture) for each in CLASSES}
    fitting = next((each for each in CLASSES if not lacking[each.name]), None)
    if fitting is None:
        told = "; ".join(f"{name} not {' nor '.join(parts)}" for name, parts in lacking.items())
        raise BadInputError(f"no timm model has the parts of this student together: timm's {told}")
    arguments = {**_common(architecture, num_classes), **fitting.arguments(architecture)}
    return TimmForm(fitting, fitting.builders[architecture.components.norm_eps], arguments)


def bias_in_positions(architecture: Architecture) -> bool:
    """Say whether the patches' bias has to be part of the position embedding.

    timm's patches have no bias where a norm stands before the blocks.
    """
    return architecture.components.norm_pre and architecture.components.patch_bias


def _parts(architecture: Architecture) -> dict[str, Any]:
    parts = {**dict(architecture), **dict(architecture.components)}
    if parts["mlp"] == "swiglu":
        parts["activation"] = "gelu"  # the gate's is SiLU, whatever stands here
    return parts


def _common(architecture: Architecture, num_classes: int) -> dict[str, Any]:
    size = architecture.size
    return {
        "img_size": architecture.image_size,
        "patch_size": architecture.patch,
        "in_chans": architecture.channels,
        "num_classes": num_classes,
        "global_pool": "avg",
        "embed_dim": size.width,
        "depth": size.depth,
        "num_heads": size.heads,
        "mlp_ratio": _ratio(size.width, round(size.width * size.mlp_ratio)),
        "qkv_bias": architecture.components.qkv_bias != "none",
    }


def _ratio(width: int, hidden: int) -> float:
    """Give a ratio from which timm, which rounds down, gets this inner width."""
    exact = hidden / width
    return exact if int(width * exact) == hidden else (hidden + 0.5) / width


def _has_positions(architecture: Architecture) -> bool:
    return architecture.components.position != "none" or bias_in_positions(architecture)


def _positions_on_patches_alone(architecture: Architecture) -> bool:
    components = architecture.components
    return components.position == "none" or not components.position_on_prefix


def _vision_transformer(architecture: Architecture) -> dict[str, Any]:
    components = architecture.components
    return {
        "qk_norm": components.qk_norm,
        "init_values": components.layer_scale or 0.0,
        "class_token": architecture.class_token,
        "reg_tokens": architecture.registers,
        "pos_embed": "learn" if _has_positions(architecture) else "none",
        "no_embed_class": _positions_on_patches_alone(architecture),
        "pre_norm": components.norm_pre,
        "act_layer": components.activation,
    }


def _eva(architecture: Architecture) -> dict[str, Any]:
    components = architecture.components
    # left out where not asked for: to this class 0 is an initial value, and earlier versions know no norm of
    # queries and keys
    scale = {} if components.layer_scale is None else {"init_values": components.layer_scale}
    norm = {"qk_norm": True} if components.qk_norm else {}
    return {
        **scale,
        **norm,
        **_rotary(architecture),
        "attn_type": "rope" if _eva_layout(architecture) == "packed" else "eva",
        "swiglu_mlp": components.mlp == "swiglu",
        "class_token": architecture.class_token,
        "num_reg_tokens": architecture.registers,
        "use_abs_pos_emb": _has_positions(architecture),
        "no_embed_class": _positions_on_patches_alone(architecture),
        "use_pre_transformer_norm": components.norm_pre,
    }


def _rotary(architecture: Architecture) -> dict[str, Any]:
    form = architecture.components.rope
    if form == "none":
        return {"use_rot_pos_emb": False}
    return {
        "use_rot_pos_emb": True,
        "rope_type": "dinov3" if form == "dinov3" else "cat",
        "rope_temperature": DINOV3_BASE if form == "dinov3" else EVA02_BASE,
        "rope_rotate_half": form == "dinov3",
        "rope_grid_offset": 0.0,
        "rope_grid_indexing": "ij",
        "ref_feat_shape": EVA02_GRID,
    }


def _beit(architecture: Architecture) -> dict[str, Any]:
    components = architecture.components
    return {
        "init_values": components.layer_scale or 0.0,
        "use_abs_pos_emb": components.position != "none",
        "use_rel_pos_bias": components.relative_position_bias,
        "swiglu_mlp": components.mlp == "swiglu",
    }


def _relative(architecture: Architecture) -> dict[str, Any]:
    return {
        "qk_norm": architecture.components.qk_norm,
        "init_values": architecture.components.layer_scale or 0.0,
        "class_token": architecture.class_token,
        "rel_pos_type": "bias",
        "fc_norm": True,
    }


def _packed(_: Architecture) -> Layout:
    return "packed"


def _apart(_: Architecture) -> Layout:
    return "apart"


def _eva_layout(architecture: Architecture) -> Layout:
    # a rotary embedding turns the key's bias with the key, so that it has to stay where there is one
    return "packed" if architecture.components.qkv_bias == "full" else "apart"


NO_TABLE: Mapping[str, tuple[object, ...]] = {"relative_position_bias": (False,)}
TABLE: Mapping[str, tuple[object, ...]] = {
    "relative_position_bias": (True,),
    "registers": (0,),
    "norm_pre": (False,),
    "activation": ("gelu",),
    "rope": ("none",),
}
CLASSES = (
    TimmClass(
        name="VisionTransformer",
        builders={1e-6: "vit_base_patch16_224", 1e-5: "vit_base_patch16_clip_224"},
        takes={**NO_TABLE, "rope": ("none",), "mlp": ("plain",)},
        arguments=_vision_transformer,
        layout=_packed,
    ),
    TimmClass(
        name="Eva",
        builders={1e-6: "eva_giant_patch14_224", 1e-5: "vit_pe_core_tiny_patch16_384"},
        takes={**NO_TABLE, "activation": ("gelu",), "mlp": ("plain", "swiglu")},
        arguments=_eva,
        layout=_eva_layout,
    ),
    TimmClass(
        name="Beit",
        builders={1e-6: "beit_base_patch16_224"},
        takes={**TABLE, "class_token": (True,), "qk_norm": (False,), "mlp": ("plain", "swiglu")},
        arguments=_beit,
        layout=_apart,
    ),
    TimmClass(
        name="VisionTransformerRelPos",
        builders={1e-6: "vit_relpos_small_patch16_224"},
        takes={**TABLE, "position": ("none",), "mlp": ("plain",)},
        arguments=_relative,
        layout=_packed,
    ),
)
"""In the order in which they are tried."""
