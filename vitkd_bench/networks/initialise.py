"""One law of initialisation for every student, drawn separately for every parameter.

The law is timm's default for ViTs (`models/vision_transformer.py`, `init_weights_vit_timm`): linear weights
and the position embedding from a normal of deviation 0.02 cut at +-2, class token and registers from one of
1e-6, biases zero, norms one, the patch projection as torch makes a convolution. Layer scale starts at its
declared value and the relative position table at zero. No family's own law is used, so that native and
standard students differ in components only (AT section 6).

Each parameter has a random stream of its own, named after it. A standard and a native student of one seed
therefore share the weights of all parts that both have, whatever stands between those parts: their paired
difference is the components' and not that of another draw. With one stream for the network, a single extra
token would change every later weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from timm.layers import LayerScale
from torch import Generator, Tensor, nn

from vitkd_bench.networks.vit import ViT
from vitkd_bench.spec import seeded

Law = Callable[[Tensor, Generator], object]

TOKEN_STD = 1e-6
WEIGHT_STD = 0.02


@torch.no_grad()
def initialise(vit: ViT, seed: int) -> None:
    """Draw every parameter of `vit` from a stream of `seed` that is named after it; no global state is used.

    Raises:
        LookupError: a parameter that the law does not name (a new part of the network needs a rule here).
    """
    for name, parameter in vit.named_parameters():
        owner = vit.get_submodule(name.rpartition(".")[0])
        generator = Generator().manual_seed(seeded(seed, "initialisation", name))
        _law(owner, name)(parameter, generator)


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
