"""How closely a student follows its teacher (Stanton et al., arXiv:2106.05945)."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from vitkd_bench.measures.arrays import log_probabilities
from vitkd_bench.spec import VitkdError


def fidelity(log_probs: Tensor, teacher_log_probs: Tensor) -> dict[str, float]:
    """Compare predictions with the teacher's: `agreement` of the first class, and `kl` in nats.

    `agreement` is a fraction with an exact count, of equal scores the smaller index is first; `kl` is the
    mean over samples of KL(teacher || student), and at least zero.

    Args:
        log_probs: (N, K), the student's; logits will do.
        teacher_log_probs: (N, K), the teacher's for the same samples and classes.

    Raises:
        VitkdError: shapes differ, or a value is not finite.
    """
    if log_probs.shape != teacher_log_probs.shape:
        raise VitkdError(
            f"fidelity: student {tuple(log_probs.shape)}, teacher {tuple(teacher_log_probs.shape)}"
        )
    student = log_probabilities(log_probs, "fidelity, student")
    teacher = log_probabilities(teacher_log_probs, "fidelity, teacher")
    same = student.argmax(axis=1) == teacher.argmax(axis=1)  # numpy takes the first of equals
    divergence = (np.exp(teacher) * (teacher - student)).sum(axis=1)
    return {
        "agreement": int(same.sum()) / len(same),
        "kl": max(0.0, float(divergence.sum() / len(same))),
    }
