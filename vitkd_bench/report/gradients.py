"""How strongly a method's own part of the loss pulls at the student beside the task's, at the start."""

from __future__ import annotations

import math
from collections.abc import Mapping

TASK_PARTS = frozenset({"labels", "branches", "kd", "logits"})
"""Parts of a loss that are the task's: against labels, the student's or those of branches that it shares
blocks with, and against the teacher's logits where these stand beside what a method itself compares."""
FAIR = (0.05, 1.0)
"""Ratios between which a weight is of the labels' scale."""


def gradient_ratio(norms: Mapping[str, float], method: str) -> float | None:
    """Norms of the gradients of a method's own parts of the loss, over those of the task's.

    Parts are added up by their norms, which bounds the norm of their sum from above.

    Args:
        norms: by part of the loss, weights included, as a record gives them.
        method: the registered name; a part of that name is the method's own, whatever it is called elsewhere.

    Returns:
        The ratio, or None where the loss has not both sides or the task pulls at nothing.
    """
    own = [norm for part, norm in norms.items() if part == method or part not in TASK_PARTS]
    task = math.fsum(norm for part, norm in norms.items() if part in TASK_PARTS - {method})
    return math.fsum(own) / task if own and task else None


def told(ratio: float) -> str:
    """Say a ratio in a phrase, and whether it is of a fair size."""
    shown = f"{ratio:.2g}"
    fair = FAIR[0] <= float(shown) <= FAIR[1]  # as it is printed: 1.02 reads as 1
    return f"gradient ratio {shown}" + ("" if fair else ": the weight is far from the labels' scale")
