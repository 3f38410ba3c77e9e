"""A network in stages, as pretraining needs it: to leave tokens out, to mask them, to read each."""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import Tensor, nn

from vitkd_bench.contracts import Network

LAYER_SCALE_START = 1.0


class Stages(Protocol):
    """The stages of this package's own ViT; `head` is an identity without classes."""

    head: nn.Module
    fc_norm: nn.Module
    patch_embed: nn.Module

    def embed(self, pixels: Tensor) -> Tensor:
        """Turn normalised pixels (B, C, H, W) into tokens (B, N, D)."""

    def encode(self, tokens: Tensor) -> Tensor:
        """Run all blocks."""

    def pool(self, tokens: Tensor) -> Tensor:
        """Average patch tokens and normalise: (B, D)."""


class _Normaliser(Protocol):
    def normalise(self, pixels: Tensor) -> Tensor:
        """Normalise pixels in [0, 1] the network's own way."""


def stages(network: Network) -> Stages:
    """Give the stages of a network of our own.

    Raises:
        TypeError: the network is a foreign one, which cannot be run in stages.
    """
    if not hasattr(network.module, "encode"):
        raise TypeError(f"pretraining runs our own ViT in stages; {type(network.module).__name__} has none")
    return cast("Stages", network.module)


def embed(network: Network, pixels: Tensor) -> Tensor:
    """Normalise pixels in [0, 1], (B, C, H, W), and give the tokens that enter the first block, (B, N, D)."""
    return stages(network).embed(cast("_Normaliser", network).normalise(pixels))


def pooled(network: Network, pixels: Tensor) -> Tensor:
    """Give the pooled representation (B, D) of pixels in [0, 1]."""
    vit = stages(network)
    return vit.pool(vit.encode(embed(network, pixels)))


def patch_tokens(network: Network, tokens: Tensor) -> Tensor:
    """Give the patch tokens (B, P, D) of encoded ones, each through the norm that follows pooling."""
    normed: Tensor = stages(network).fc_norm(tokens[:, network.architecture.prefix :])
    return normed


@torch.no_grad()
def open_layer_scale(network: Network) -> None:
    """Start every layer scale of a network to be pretrained at 1, the value of DINOv2's hub builder.

    From the 1e-5 or 0.1 of the families' long trainings the blocks stay next to an identity for most of so
    short a one as a micro teacher's. A native student of that teacher starts at its architecture's declared
    value: students of a comparison never pass through here.
    """
    for name, parameter in network.module.named_parameters():
        if name.endswith("gamma"):
            parameter.fill_(LAYER_SCALE_START)
