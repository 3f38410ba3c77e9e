"""Parts of methods that generate the teacher's patch tokens from some of the student's."""

from __future__ import annotations

from torch import nn


def aligned(student: int, teacher: int) -> nn.Module:
    """Draw a linear layer from the student's width to the teacher's; there is none where they are equal."""
    return nn.Identity() if student == teacher else nn.Linear(student, teacher)


def convolutions(width: int) -> nn.Sequential:
    """Draw two 3 x 3 convolutions of maps (B, width, H, W) with a ReLU between them."""
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
    )
