"""A student's weights in the form of the timm model that computes the same function.

A student's own names are those of timm's `VisionTransformer` (`networks.vit`). What has no place in the other
model becomes part of a weight that has one, exactly: softmax does not see what is added to all logits of a
query, and a constant that is added to every patch may as well be added to their positions.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vitkd_bench.networks.timm_form import TimmForm, bias_in_positions
from vitkd_bench.spec import Architecture

PATCH_BIAS = "patch_embed.proj.bias"
TABLE = "relative_position_bias_table"
PREFIX_ROWS = 3  # of a relative table, the last ones: timm's has them where there is a class token

NO_PATCH_BIAS = "The student's patches have no bias; it is zero here."
FOLDED_PATCH_BIAS = "The bias of the patches is part of the position embedding."
FIXED_POSITIONS = "The position embedding was fixed in training; here it is a parameter."
NO_POSITION_ON_PREFIX = "The class token had no position; it is zero here."
NO_KEY_BIAS = "The student's keys have no bias; it is zero here."
DROPPED_KEY_BIAS = (
    "The bias of the keys is left out: softmax does not see it, it moves all logits of a query alike."
)


def timm_state(
    weights: Mapping[str, Tensor], architecture: Architecture, form: TimmForm
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Bring a student's state into the names and shapes of its form in timm.

    Args:
        weights: the state dict of a `ViT`, with the tensors of no other module.
        architecture: the student's.
        form: what `timm_form` gives for it.

    Returns:
        The state, in which no two tensors share memory, and a sentence for each weight that is not as it was
        trained.
    """
    state, notes = dict(weights), list[str]()
    _fit_patches(state, notes, architecture)
    _fit_positions(state, notes, architecture, form)
    for i in range(architecture.size.depth):
        _fit_bias(state, notes, architecture, form, f"blocks.{i}.attn.")
        _fit_block(state, architecture, form, f"blocks.{i}.")
    own = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}
    return own, tuple(dict.fromkeys(notes))


def _fit_patches(state: dict[str, Tensor], notes: list[str], student: Architecture) -> None:
    components = student.components
    if bias_in_positions(student):
        bias, patches = state.pop(PATCH_BIAS), student.grid**2
        before = state.get("pos_embed", bias.new_zeros(1, patches, len(bias)))
        prefix = before[:, : before.shape[1] - patches]
        state["pos_embed"] = torch.cat([prefix, before[:, prefix.shape[1] :] + bias], dim=1)
        notes.append(FOLDED_PATCH_BIAS)
    elif not components.patch_bias and not components.norm_pre:
        state[PATCH_BIAS] = state["patch_embed.proj.weight"].new_zeros(student.size.width)
        notes.append(NO_PATCH_BIAS)


def _fit_positions(state: dict[str, Tensor], notes: list[str], student: Architecture, form: TimmForm) -> None:
    if student.components.position == "fixed":
        notes.append(FIXED_POSITIONS)
    if form.of.name == "Beit" and "pos_embed" in state and not student.components.position_on_prefix:
        patches = state["pos_embed"]
        state["pos_embed"] = torch.cat([torch.zeros_like(patches[:, :1]), patches], dim=1)
        notes.append(NO_POSITION_ON_PREFIX)


def _fit_bias(
    state: dict[str, Tensor], notes: list[str], student: Architecture, form: TimmForm, attention: str
) -> None:
    layout, given = form.of.layout(student), student.components.qkv_bias
    if given == "full" and layout == "apart":
        query, _, value = state.pop(f"{attention}qkv.bias").chunk(3)
        state[f"{attention}q_bias"], state[f"{attention}v_bias"] = query, value
        notes.append(DROPPED_KEY_BIAS)
    elif given == "qv" and layout == "packed":
        query, value = state.pop(f"{attention}q_bias"), state.pop(f"{attention}v_bias")
        state[f"{attention}qkv.bias"] = torch.cat([query, torch.zeros_like(query), value])
        notes.append(NO_KEY_BIAS)


def _fit_block(state: dict[str, Tensor], student: Architecture, form: TimmForm, block: str) -> None:
    """Rename layer scales and the relative table, and take a gated MLP's two matrices apart for `Beit`."""
    if form.of.name in {"Beit", "Eva"} and student.components.layer_scale is not None:
        for i in (1, 2):
            state[f"{block}gamma_{i}"] = state.pop(f"{block}ls{i}.gamma")
    if form.of.name == "Beit" and student.components.mlp == "swiglu":
        for kind in ("weight", "bias"):
            gate, value = state.pop(f"{block}mlp.fc1.{kind}").chunk(2)
            state[f"{block}mlp.fc1_g.{kind}"], state[f"{block}mlp.fc1_x.{kind}"] = gate, value
    if form.of.name == "VisionTransformerRelPos":
        table = state.pop(f"{block}attn.{TABLE}")
        rows = len(table) if student.class_token else len(table) - PREFIX_ROWS
        state[f"{block}attn.rel_pos.{TABLE}"] = table[:rows]
