"""How closely a student follows its teacher (Stanton et al., arXiv:2106.05945)."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from vitkd_bench.measures import standard_errors
from vitkd_bench.measures.arrays import blocks, check_scores, normalised
from vitkd_bench.spec import VitkdError


def fidelity(log_probs: Tensor, teacher_log_probs: Tensor) -> dict[str, float]:
    """Compare predictions with the teacher's: `agreement` of the first class, and `kl` in nats.

    `agreement` is a fraction with an exact count, of equal scores the smaller index is first; `kl` is the
    mean over samples of KL(teacher || student), and at least zero. `agreement_se` and `kl_se` are their
    standard errors over samples, as in `classification`; absent for a single sample.

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
    check_scores(log_probs, "fidelity, student")
    check_scores(teacher_log_probs, "fidelity, teacher")
    same, divergence = [], []
    for one, two in zip(blocks(log_probs), blocks(teacher_log_probs), strict=True):
        student, teacher = normalised(one), normalised(two)
        same.append(student.argmax(axis=1) == teacher.argmax(axis=1))  # numpy takes the first of equals
        divergence.append((np.exp(teacher) * (teacher - student)).sum(axis=1))
    agreed, each = int(np.concatenate(same).sum()), np.concatenate(divergence)
    n = len(each)
    errors = {"agreement": standard_errors.of_share(agreed, n), "kl": standard_errors.of_mean(each)}
    return {
        "agreement": agreed / n,
        "kl": max(0.0, float(each.sum() / n)),
        **standard_errors.told(errors),
    }
