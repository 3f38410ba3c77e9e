"""The first half of one method's step on a micro pair, as the engine takes it, and whom it reaches."""

from __future__ import annotations

import torch
from torch import Tensor

from vitkd_bench.contracts import Batch, Features, Method
from vitkd_bench.networks import ViTNetwork


def parts_of(method: Method, student: ViTNetwork, teacher: ViTNetwork, batch: Batch) -> dict[str, Tensor]:
    """Read of the teacher what the method names, no more, and give the parts of its loss."""
    student.train()
    taps = method.teacher_taps()
    read: Features | None = teacher(batch.pixels, taps) if taps else None
    return dict(method.step(student, read, batch))


def reaches_the_student(part: Tensor, student: ViTNetwork) -> bool:
    """Say whether a part of the loss moves the student's first layer."""
    first = student.module.get_parameter("patch_embed.proj.weight")
    (gradient,) = torch.autograd.grad(part, first, materialize_grads=True)
    return bool(gradient.count_nonzero())
