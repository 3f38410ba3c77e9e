"""The weights of a network of any library under the names of timm's `VisionTransformer`: a student's own."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from vitkd_bench.networks.anatomy import anatomy_of
from vitkd_bench.networks.components import SHARED_TABLES
from vitkd_bench.registry.placing import by_rules
from vitkd_bench.spec import Architecture, BadInputError

INNER = r"(?:(?:visual|trunk|vision_model|vit|deit|beit|dinov2|dinov2_with_registers)\.)*"
TABLE = "attn.relative_position_bias_table"
OUTSIDE = (  # of the blocks; the first pattern that fits a whole name decides
    (r"(?:embeddings\.)?(?:cls_token|class_embedding)", "cls_token"),
    (r"embeddings\.(?:register_tokens|distillation_token)", "reg_token"),
    (r"positional_embedding|embeddings\.position_embedding(?:s|\.weight)", "pos_embed"),
    (
        r"(?:conv1|embeddings\.patch_embeddings\.projection|embeddings\.patch_embedding)\.(\w+)",
        r"patch_embed.proj.\1",
    ),
    (r"(?:ln_pre|pre_layrnorm)\.(\w+)", r"norm_pre.\1"),
    (r"(?:ln_post|post_layernorm|layernorm)\.(\w+)", r"norm.\1"),
    (r"pooler\.layernorm\.(\w+)", r"fc_norm.\1"),
    (r"classifier\.(\w+)", r"head.\1"),
)
WITHIN = (  # a block
    (r"(?:attention|self_attn)\.([qkv])_proj\.(\w+)", r"attn.\1.\2"),
    (r"attn\.in_proj_(\w+)", r"attn.qkv.\1"),
    (r"(?:attention\.o_proj|(?:self_)?attn\.out_proj)\.(\w+)", r"attn.proj.\1"),
    (r"(?:ln_|layer_norm)([12])\.(\w+)", r"norm\1.\2"),
    (r"layernorm_before\.(\w+)", r"norm1.\1"),
    (r"layernorm_after\.(\w+)", r"norm2.\1"),
    (r"mlp\.c_fc\.(\w+)", r"mlp.fc1.\1"),
    (r"mlp\.c_proj\.(\w+)", r"mlp.fc2.\1"),
    (r"(?:gamma_|lambda_|ls_)([12])(?:\.gamma)?|layer_scale([12])\.lambda1", r"ls\1\2.gamma"),
    (r"relative_position_bias\.relative_position_bias_table", TABLE),
)
EVERY_BLOCK = tuple(
    f"{layer}.{kind}"
    for layer in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    for kind in ("weight", "bias")
    if (layer, kind) != ("attn.qkv", "bias")
)


def timm_weights(module: nn.Module, architecture: Architecture) -> dict[str, Tensor]:
    """Give parameters and stored buffers of a bare ViT by timm's names, detached; they may share its memory.

    Query, key and value are one matrix; a bias of query and value alone is `q_bias` and `v_bias`. Layer
    scales are `ls1.gamma` and `ls2.gamma`, a relative table that all blocks share is given to each. Tables
    have a batch dimension. A position of the class token beside registers without one is part of that
    token. What timm has no name for keeps its own.

    Raises:
        BadInputError: a class that is not known, or blocks whose parts have other names.
    """
    blocks = anatomy_of(module).blocks
    named = {_renamed(name, blocks): t.detach() for name, t in module.state_dict().items()}
    _share_table(named, architecture.size.depth)
    for i in range(architecture.size.depth):
        _pack(named, f"blocks.{i}.attn.")
        missing = [part for part in EVERY_BLOCK if f"blocks.{i}.{part}" not in named]
        if missing:
            raise BadInputError(
                f"weights of {type(module).__name__}: in block {i} nothing is {missing[0]} in timm's names"
            )
    for name in ("cls_token", "reg_token", "pos_embed"):
        if name in named:
            named[name] = named[name].reshape(1, -1, architecture.size.width)
    _fold_class_position(named, architecture)
    return named


def _renamed(name: str, blocks: str) -> str:
    inside = re.fullmatch(rf"{re.escape(blocks)}\.(\d+)\.(.+)", name)
    if inside:
        return f"blocks.{inside[1]}.{by_rules(inside[2], WITHIN)}"
    return by_rules(re.sub(f"^{INNER}", "", name), OUTSIDE)


def _share_table(named: dict[str, Tensor], depth: int) -> None:
    for owner in SHARED_TABLES:
        table = named.pop(f"{owner}.relative_position_bias_table", None)
        if table is not None:
            named.update({f"blocks.{i}.{TABLE}": table for i in range(depth)})


def _pack(named: dict[str, Tensor], attention: str) -> None:
    """Join the projections of one block where its library keeps them apart."""
    for kind in ("weight", "bias"):
        there = {letter: named.pop(f"{attention}{letter}.{kind}", None) for letter in "qkv"}
        found = {letter: tensor for letter, tensor in there.items() if tensor is not None}
        if len(found) == len(there):
            named[f"{attention}qkv.{kind}"] = torch.cat(list(found.values()))
        else:
            named.update({f"{attention}{letter}_bias": tensor for letter, tensor in found.items()})


def _fold_class_position(named: dict[str, Tensor], architecture: Architecture) -> None:
    rows = named["pos_embed"].shape[1] - architecture.grid**2 if "pos_embed" in named else 0
    if rows not in {0, architecture.prefix}:
        position = named["pos_embed"]
        named["cls_token"] = named["cls_token"] + position[:, :1]
        named["pos_embed"] = position[:, rows:]
