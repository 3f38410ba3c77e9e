"""Attention distillation: a distance between the attention maps of student and teacher."""

from __future__ import annotations

import math
from typing import Literal, get_args

from torch import Tensor

from vitkd_bench.attention.call import AttentionCall
from vitkd_bench.attention.distances import Loss, plain_rows
from vitkd_bench.attention.sweep import fused_distillation

Form = Literal["auto", "fused", "plain"]
OverKeys = Literal["sum", "mean"]

# Keys from which the fused form is the better one on a CPU. At 17 keys both take the same time, and maps are
# smaller than the gradients that the fused form keeps; at 37 it takes 0.7 to 0.85 of the plain form's time
# and less memory.
FUSED_FROM = 32


def attention_distillation(
    student: AttentionCall,
    teacher: AttentionCall,
    *,
    loss: Loss = "ce",
    over_keys: OverKeys = "sum",
    form: Form = "auto",
) -> Tensor:
    """Compute the mean distance of the student's attention rows from the teacher's.

    Per row, with P the maps and sums over the keys: ``ce`` is the cross-entropy ``-sum P_t log P_s``, ``kl``
    that less the teacher's entropy, KL(teacher || student), ``jsd`` the Jensen-Shannon divergence (all three
    in nats), ``l1`` is ``sum |P_s - P_t|``, ``mse`` is ``sum (P_s - P_t)^2``, and ``mse_logits`` the same of
    the logits, scale and bias included. ``over_keys="mean"`` divides by the number of keys, as `F.mse_loss`
    does. The mean is over batch, heads and queries; the result is a scalar, float32 or better. Gradients
    reach the student's q, k and bias; the teacher gets none. Head width and scale may differ.

    `form`: ``plain`` makes the maps. ``fused`` never does: its memory is linear in tokens (a bias that needs
    a gradient apart), its gradients are exact and computed in forward, and it can be differentiated once; a
    second time raises. ``auto`` is ``plain`` for fewer than 32 keys on a CPU, else ``fused``: the faster one
    at the sizes measured (benchmarks/speed/attention.py), on a GPU by reckoning.

    Source: Li et al., NeurIPS 2024 (arXiv:2411.09702), "attention distillation", for ``ce`` and the mean over
    rows; ``mse_logits`` of attention: Jiao et al., TinyBERT (arXiv:1909.10351), equation 7.

    Raises:
        ValueError: batch, heads, queries, keys or device differ, or a word is unknown.
    """
    _refuse(student, teacher, {"loss": loss, "over_keys": over_keys, "form": form})
    *rows, keys = _extent(student).values()
    if form == "plain" or (form == "auto" and _few_keys(student)):
        summed = plain_rows(loss, student.logits(), teacher.detach().logits()).mean()
        return summed / keys if over_keys == "mean" else summed
    divisor = math.prod(rows) * (keys if over_keys == "mean" else 1)
    return fused_distillation(student, teacher.detach(), loss, divisor)


def plain_distillation(
    student: AttentionCall, teacher: AttentionCall, *, loss: Loss = "ce", over_keys: OverKeys = "sum"
) -> Tensor:
    """Compute `attention_distillation` as the papers write it, by making both maps: the public reference.

    Memory is quadratic in tokens; any number of differentiations.

    Raises:
        ValueError: as `attention_distillation`.
    """
    return attention_distillation(student, teacher, loss=loss, over_keys=over_keys, form="plain")


def _few_keys(call: AttentionCall) -> bool:
    return call.q.device.type == "cpu" and call.k.shape[2] < FUSED_FROM


WORDS = {"loss": get_args(Loss), "over_keys": get_args(OverKeys), "form": get_args(Form)}


def _refuse(student: AttentionCall, teacher: AttentionCall, given: dict[str, str]) -> None:
    for name, word in given.items():
        if word not in WORDS[name]:
            known = ", ".join(WORDS[name])
            raise ValueError(f"{name} {word!r} of attention_distillation is unknown: use one of {known}")
    ours, theirs = ({**_extent(call), "device": call.q.device} for call in (student, teacher))
    differing = [f"{name} ({ours[name]} and {theirs[name]})" for name in ours if ours[name] != theirs[name]]
    if differing:
        raise ValueError(
            f"student and teacher differ in {', '.join(differing)}: their attention maps cannot be compared"
        )


def _extent(call: AttentionCall) -> dict[str, int]:
    batch, heads, queries = call.q.shape[:3]
    return {"batch": batch, "heads": heads, "queries": queries, "keys": call.k.shape[2]}
