"""Two steps of a method as the engine takes them, and what moved."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitkd_bench.contracts import Batch, Method
from vitkd_bench.networks import ViTNetwork


@dataclass(frozen=True)
class Steps:
    """The parts of the loss of both steps, the method's parameters that moved and that did not."""

    parts: tuple[dict[str, float], dict[str, float]]
    moved: frozenset[str]
    still: frozenset[str]


def two_steps(method: Method, student: ViTNetwork, teacher: ViTNetwork, batch: Batch) -> Steps:
    """Train student and method for two steps; all that is learned is in the optimiser from the start."""
    own = dict(method.named_parameters()) if isinstance(method, nn.Module) else {}
    before = {name: parameter.detach().clone() for name, parameter in own.items()}
    optimiser = torch.optim.AdamW([*student.parameters(), *own.values()], lr=1e-2, weight_decay=0.0)
    student.train()
    parts = [_step(method, student, teacher, batch, optimiser) for _ in range(2)]
    moved = frozenset(name for name, parameter in own.items() if not torch.equal(parameter, before[name]))
    return Steps((parts[0], parts[1]), moved, frozenset(own) - moved)


def _step(
    method: Method, student: ViTNetwork, teacher: ViTNetwork, batch: Batch, optimiser: torch.optim.Optimizer
) -> dict[str, float]:
    losses = method.step(student, teacher(batch.pixels, method.teacher_taps()), batch)
    optimiser.zero_grad()
    torch.stack(list(losses.values())).sum().backward()
    optimiser.step()
    student.clear()
    return {name: part.item() for name, part in losses.items()}


def student_gradients(part: Tensor, student: ViTNetwork) -> dict[str, float]:
    """Give the largest gradient of each of the student's parameters that this part of a loss reaches."""
    student.zero_grad()
    part.backward()
    found = {name: p.grad for name, p in student.module.named_parameters() if p.grad is not None}
    return {name: gradient.abs().max().item() for name, gradient in found.items()}
