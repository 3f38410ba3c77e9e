"""Attention distillation: a distance between the attention maps of student and teacher."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from vitkd_bench.attention.call import AttentionCall
from vitkd_bench.attention.sweep import fused_distillation

Loss = Literal["ce", "kl"]
Form = Literal["auto", "fused", "plain"]

# Keys from which the fused form is the better one on a CPU. At 17 keys both take the same time, and maps are
# smaller than the gradients that the fused form keeps; at 37 it takes 0.7 to 0.85 of the plain form's time
# and less memory.
FUSED_FROM = 32


def attention_distillation(
    student: AttentionCall, teacher: AttentionCall, *, loss: Loss = "ce", form: Form = "auto"
) -> Tensor:
    """Compute the mean distance of the student's attention rows from the teacher's, in nats.

    Per row, over the keys: ``ce`` is the cross-entropy ``-sum_j P_t log P_s``, ``kl`` that less the teacher's
    entropy, KL(teacher || student). The mean is over batch, heads and queries; the result is a scalar,
    float32 or better. Gradients reach the student's q, k and bias; the teacher gets none. Head width and
    scale may differ.

    `form`: ``plain`` makes the maps. ``fused`` never does: its memory is linear in tokens (a bias that needs
    a gradient apart), its gradients are exact and computed in forward, and it can be differentiated once; a
    second time raises. ``auto`` is ``plain`` for fewer than 32 keys on a CPU, else ``fused``: the faster one
    at the sizes measured (benchmarks/speed/attention.py), on a GPU by reckoning.

    Source: Li et al., NeurIPS 2024 (arXiv:2411.09702), "attention distillation"; the reduction is theirs.

    Raises:
        ValueError: batch, heads, queries, keys or device differ, or `loss` or `form` is unknown.
    """
    _refuse(student, teacher, loss, form)
    if form == "plain" or (form == "auto" and _few_keys(student)):
        return _plain(student, teacher, loss)
    return fused_distillation(student, teacher.detach(), kl=loss == "kl")


def plain_distillation(student: AttentionCall, teacher: AttentionCall, *, loss: Loss = "ce") -> Tensor:
    """Compute `attention_distillation` as the papers write it, by making both maps: the public reference.

    Memory is quadratic in tokens; any number of differentiations.

    Raises:
        ValueError: as `attention_distillation`.
    """
    return attention_distillation(student, teacher, loss=loss, form="plain")


def _few_keys(call: AttentionCall) -> bool:
    return call.q.device.type == "cpu" and call.k.shape[2] < FUSED_FROM


def _plain(student: AttentionCall, teacher: AttentionCall, loss: Loss) -> Tensor:
    log_s = torch.log_softmax(student.logits(), dim=-1)
    log_t = torch.log_softmax(teacher.detach().logits(), dim=-1)
    p_t = log_t.exp()
    terms = p_t * (log_t - log_s) if loss == "kl" else -p_t * log_s
    return terms.masked_fill(p_t == 0, 0).sum(dim=-1).mean()  # 0 log 0 is 0, also where a key is masked


def _refuse(student: AttentionCall, teacher: AttentionCall, loss: str, form: str) -> None:
    for name, given, known in (("loss", loss, get_args(Loss)), ("form", form, get_args(Form))):
        if given not in known:
            raise ValueError(
                f"{name} {given!r} of attention_distillation is unknown: use one of {', '.join(known)}"
            )
    ours, theirs = _extent(student), _extent(teacher)
    differing = [f"{name} ({ours[name]} and {theirs[name]})" for name in ours if ours[name] != theirs[name]]
    if differing:
        raise ValueError(
            f"student and teacher differ in {', '.join(differing)}: their attention maps cannot be compared"
        )


def _extent(call: AttentionCall) -> dict[str, object]:
    batch, heads, queries = call.q.shape[:3]
    return {
        "batch": batch,
        "heads": heads,
        "queries": queries,
        "keys": call.k.shape[2],
        "device": call.q.device,
    }
