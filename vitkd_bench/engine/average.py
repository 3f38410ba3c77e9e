"""The moving average of a student's weights, where a recipe evaluates that in the student's place."""

from __future__ import annotations

import copy

import torch

from vitkd_bench.networks import ViTNetwork


class AverageOf:
    """An average that follows a network step by step: old x momentum + new x (1 - momentum).

    As in DeiT and MAE's fine-tuning (timm `ModelEma`): it starts as the network itself, has no warm-up, and
    buffers are copied.
    """

    def __init__(self, network: ViTNetwork, momentum: float) -> None:
        self.momentum = momentum
        self.network = copy.deepcopy(network).requires_grad_(requires_grad=False)

    @torch.no_grad()
    def move(self, network: ViTNetwork) -> None:
        """Take one step towards the network."""
        fresh = network.module.state_dict()
        for name, old in self.network.module.state_dict().items():
            if old.is_floating_point():
                old.lerp_(fresh[name], 1 - self.momentum)
            else:
                old.copy_(fresh[name])
