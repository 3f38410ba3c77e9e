"""Which tensors the parts of a network are, by name: contracts and the resolver are held against it."""

from __future__ import annotations

import re

from torch import nn

from vitkd_bench.networks.anatomy import anatomy_of
from vitkd_bench.spec import Architecture

Shapes = dict[str, tuple[int, ...]]

ADDED: dict[str, tuple[str, ...]] = {
    "layer_scale": ("blocks.*.ls1.gamma", "blocks.*.ls2.gamma"),
    "norm_pre": ("norm_pre.weight", "norm_pre.bias"),
    "relative_position_bias": ("blocks.*.attn.relative_position_bias_table",),
    "qkv_bias=qv": ("blocks.*.attn.q_bias", "blocks.*.attn.v_bias"),
    "qk_norm": (
        "blocks.*.attn.q_norm.weight",
        "blocks.*.attn.q_norm.bias",
        "blocks.*.attn.k_norm.weight",
        "blocks.*.attn.k_norm.bias",
    ),
}
"""Tensors that a component adds to a plain ViT, `*` for each block; `name=value` where the value decides."""

TAKEN: dict[str, tuple[str, ...]] = {
    "position=none": ("pos_embed",),
    "qkv_bias": ("blocks.*.attn.qkv.bias",),
    "patch_bias": ("patch_embed.proj.bias",),
}
"""Tensors that it takes away."""

RESHAPED: dict[str, tuple[str, ...]] = {
    "position_on_prefix": ("pos_embed",),
    "mlp": ("blocks.*.mlp.fc1.weight", "blocks.*.mlp.fc1.bias"),
}
"""Tensors that are of another shape under it."""

NO_PART = ("head.", "attn_pool.", "classifier.")  # pooling and head are no part of what is compared
_OWN_BLOCKS = ("blocks", "trunk.blocks")  # where our own names are those of the library


def of_components(table: dict[str, tuple[str, ...]], components: dict[str, object]) -> set[str]:
    """Gather the tensors of components, given by name with their value."""
    asked = [key for name, value in components.items() for key in (name, f"{name}={value}")]
    return {tensor for key in asked for tensor in table.get(key, ())}


def tensors_of(module: nn.Module) -> Shapes:
    """Give names and shapes of a network of ours or timm, as ours calls them, without pooling and head."""
    found = {}
    for name, tensor in module.state_dict().items():
        ours = re.sub(r"^norm\.", "fc_norm.", name.removeprefix("trunk."))
        ours = re.sub(r"\.gamma_([12])$", r".ls\1.gamma", ours)
        if not ours.startswith(NO_PART):
            found[ours] = tuple(tensor.shape)
    return found


def folded(shapes: Shapes) -> Shapes:
    """Make the tensors of all blocks one: `blocks.*.`."""
    return {re.sub(r"blocks\.\d+", "blocks.*", name): shape for name, shape in shapes.items()}


def other_tensors(module: nn.Module, own: nn.Module, architecture: Architecture) -> str:
    """Say in which tensors a built network is not our own of the same architecture; nothing if in none.

    Where a library has names of its own, the numbers in all tensors but the position embedding are counted.
    """
    anatomy = anatomy_of(module)
    if anatomy.blocks in _OWN_BLOCKS:
        found, wanted = folded(tensors_of(module)), folded(tensors_of(own))
        differ = sorted(n for n in found.keys() | wanted.keys() if found.get(n) != wanted.get(n))
        told = [f"{n} {wanted.get(n, 'absent')} claimed, {found.get(n, 'absent')} found" for n in differ[:5]]
        return "; ".join([*told, f"and {len(differ) - 5} more"] if len(differ) > 5 else told)
    found_numbers = _numbers(module, anatomy.position)
    wanted_numbers = _numbers(own, "pos_embed")
    if found_numbers == wanted_numbers:
        return ""
    return (
        f"{found_numbers:,} numbers in its tensors, where a network of depth {architecture.size.depth} "
        f"with the claimed parts has {wanted_numbers:,}"
    )


def _numbers(module: nn.Module, position: str) -> int:
    owner = position.removesuffix(".weight")
    skipped = {name for name in module.state_dict() if name in {position, owner, f"{owner}.weight"}}
    return sum(
        tensor.numel()
        for name, tensor in module.state_dict().items()
        if name not in skipped and not any(f".{part}" in f".{name}" for part in NO_PART)
    )


def parameters_of(module: nn.Module, *, labels: bool) -> int:
    """Count the parameters of a network, without those of a head of labels if it has one."""
    heads = ("head.", "classifier.") if labels else ()
    return sum(p.numel() for name, p in module.named_parameters() if not name.startswith(heads))
