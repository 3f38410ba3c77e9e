"""How strongly each part of a loss pulls at the student at the start: whether a weight is of a fair size."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vitkd_bench.engine.parts import Part
from vitkd_bench.spec import Recipe

SHARE = 0.01  # of all steps, at least one
MOST_STEPS = 20


class GradientNorms:
    """Norms of the gradient of each named part of the loss on the student, over the first steps.

    The first hundredth of all steps is measured, between 1 and 20 of them; of a batch in parts the first.
    Not measured where there is one part only, or under `compile`, whose backward pass can be run once.
    """

    def __init__(self, recipe: Recipe, train_size: int) -> None:
        steps = recipe.epochs * math.ceil(train_size / recipe.batch_size)
        self.steps = 0 if recipe.compile else min(MOST_STEPS, max(1, int(SHARE * steps)))
        self.sums: dict[str, float] = {}

    def measure(self, student: nn.Module, losses: Mapping[str, Tensor], part: Part, step: int) -> None:
        """Add the norms of one step, before its backward pass."""
        if step >= self.steps or not part.first or len(losses) < 2:
            return
        trained = [p for p in student.parameters() if p.requires_grad]
        for name, loss in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + _norm(loss, trained)

    def means(self) -> dict[str, float]:
        """Give the mean norm of each part; empty if none was measured."""
        return {name: total / self.steps for name, total in self.sums.items()}


def _norm(loss: Tensor, trained: list[nn.Parameter]) -> float:
    if not loss.requires_grad:
        return 0.0
    found = torch.autograd.grad(loss, trained, retain_graph=True, allow_unused=True, materialize_grads=True)
    return torch.stack([gradient.float().square().sum() for gradient in found]).sum().sqrt().item()
