"""One law of initialisation for all students of a comparison, drawn separately for every parameter.

The law `timm` is timm's default for ViTs (`models/vision_transformer.py`, `init_weights_vit_timm`): linear
weights and the position embedding from a normal of deviation 0.02 cut at +-2, class token and registers from
one of 1e-6, biases zero, norms one, the patch projection as torch makes a convolution. Layer scale starts at
its declared value and the relative position table at zero. No family's own law is used, so that native and
standard students differ in components only; `spec.InitialValues` names the two departures that can be asked
for, a folded layer scale and BEiT's division by depth.

The law `small` is for widths far below those that the other was made for. At width 48 and patches of four
pixels a position embedding of deviation 0.02 is a thirtieth of a patch token, attention starts uniform, and
the mean over patches sees no order for hundreds of steps. So linear weights are Xavier uniform, as in the
original ViT and in MAE (facebookresearch/mae `models_mae.py`), and positions have deviation 0.3, the size of
a patch token; relative position tables, which stand in their place, deviation 1. The rest is as in `timm`.

Each parameter has a random stream of its own, named after it. A standard and a native student of one seed
therefore share the weights of all parts that both have, whatever stands between those parts: their paired
difference is the components' and not that of another draw. With one stream for the network, a single extra
token would change every later weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from timm.layers import LayerScale
from torch import Generator, Tensor, nn

from vitkd_bench.networks.vit import ViT
from vitkd_bench.spec import seeded

Law = Callable[[Tensor, Generator], object]
LawName = Literal["timm", "small"]

TOKEN_STD = 1e-6
WEIGHT_STD = 0.02
SMALL_POSITION_STD = 0.3
SMALL_TABLE_STD = 1.0


@torch.no_grad()
def initialise(vit: ViT, seed: int, law: LawName = "timm", parts: tuple[str, ...] = ("",)) -> None:
    """Draw every parameter of `vit` from a stream of `seed` that is named after it; no global state is used.

    `parts` are submodules by name, whose parameters alone are drawn; by default the whole.

    Raises:
        LookupError: a parameter that the law does not name (a new part of the network needs a rule here).
    """
    drawn = {name: p for name, p in vit.named_parameters() if any(_within(name, part) for part in parts)}
    for name, parameter in drawn.items():
        owner = vit.get_submodule(name.rpartition(".")[0])
        generator = Generator().manual_seed(seeded(seed, "initialisation", name))
        special = _small_law(owner, name) if law == "small" else None
        (special or _law(owner, name))(parameter, generator)
    _depart(vit, drawn)


def _within(name: str, part: str) -> bool:
    return not part or name.startswith(f"{part}.")


def _depart(vit: ViT, drawn: Mapping[str, nn.Parameter]) -> None:
    """Rescale what was drawn of the last layer of each branch as the architecture's initial values say."""
    initial = vit.architecture.initial
    folded = 1.0 if initial.folded_layer_scale is None else initial.folded_layer_scale
    for number in range(1, len(vit.blocks) + 1):
        depth = math.sqrt(2 * number) if initial.scaled_by_depth else 1.0
        for layer in ("attn.proj", "mlp.fc2"):
            name = f"blocks.{number - 1}.{layer}"
            if f"{name}.weight" in drawn:
                drawn[f"{name}.weight"].mul_(folded).div_(depth)
                drawn[f"{name}.bias"].mul_(folded)


def _small_law(owner: nn.Module, name: str) -> Law | None:
    """Give the law of a part in which `small` differs from `timm`."""
    if isinstance(owner, nn.Linear) and name.endswith(".weight"):
        return lambda p, g: nn.init.xavier_uniform_(p, generator=g)
    if name == "pos_embed":
        return lambda p, g: nn.init.normal_(p, std=SMALL_POSITION_STD, generator=g)
    if name.endswith("relative_position_bias_table"):
        return lambda p, g: nn.init.normal_(p, std=SMALL_TABLE_STD, generator=g)
    return None


def _law(owner: nn.Module, name: str) -> Law:
    leaf = name.rpartition(".")[2]
    if leaf in {"cls_token", "reg_token"}:
        return lambda p, g: nn.init.normal_(p, std=TOKEN_STD, generator=g)
    if leaf == "pos_embed" or (isinstance(owner, nn.Linear) and leaf == "weight"):
        return lambda p, g: nn.init.trunc_normal_(p, std=WEIGHT_STD, generator=g)
    if isinstance(owner, nn.Conv2d):
        # torch's law for a convolution: weight and bias alike, within one over the root of the fan-in
        bound = 1 / math.sqrt(owner.weight[0].numel())
        return lambda p, g: nn.init.uniform_(p, -bound, bound, generator=g)
    if isinstance(owner, nn.LayerNorm) and leaf == "weight":
        return lambda p, _: nn.init.ones_(p)
    if leaf in {"bias", "q_bias", "v_bias", "relative_position_bias_table"}:
        return lambda p, _: nn.init.zeros_(p)
    if isinstance(owner, LayerScale):
        return lambda p, _: nn.init.constant_(p, owner.init_values)
    raise LookupError(f"no law of initialisation for {name}")
