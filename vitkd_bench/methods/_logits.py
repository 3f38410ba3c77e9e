"""The logits of student and teacher over the classes of the cell, side by side."""

from __future__ import annotations

import torch
from torch import Tensor

from vitkd_bench.contracts import CellFacts, Features


def logits_of(student: Features) -> Tensor:
    """Give the student's logits (B, K)."""
    if student.logits is None:
        raise TypeError("the student gave no logits: this method needs a head")
    return student.logits


def teacher_logits(teacher: Features | None, cell: CellFacts) -> Tensor:
    """Give the teacher's logits of the data set's classes in their order: (B, K), detached.

    A teacher that knows more classes than the data set is restricted to those of the data set, before any
    softmax.
    """
    classes = cell.teacher_classes
    if teacher is None or teacher.logits is None or classes is None:
        raise TypeError("this method reads the teacher's logits of every class, and they were not given")
    return teacher.logits[:, list(classes)].detach()


def other_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """Give the logits (B, K-1) of all classes but the label's, in their order; (B, 0) of one class.

    The class is left out, where some public code adds -1000 to its logit: that number is not small beside
    logits of that size.
    """
    others = torch.arange(logits.shape[1] - 1, device=logits.device)
    return logits.gather(1, others + (others >= labels.unsqueeze(1)))
