"""Distances between the rows of two attention maps: the plain definitions, and their slopes on a tile.

A row's distance is a sum over its keys, with P_s and P_t the softmax of the student's and the teacher's
logits:

    ce          -sum P_t log P_s                                cross-entropy, in nats
    kl          sum P_t log (P_t / P_s)                         KL(teacher || student), in nats
    jsd         KL(P_t || M) / 2 + KL(P_s || M) / 2             M = (P_s + P_t) / 2, in nats, at most log 2
    l1          sum |P_s - P_t|                                 twice the total variation, at most 2
    mse         sum (P_s - P_t)^2                               at most 2
    mse_logits  sum (logits_s - logits_t)^2                     scale and bias included

All but the last see maps alone: a constant added to the logits of a row changes nothing. Keys that are masked
(logits of -inf) on both sides count nothing; for `mse_logits` it is enough that one side masks them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

Loss = Literal["ce", "kl", "mse", "mse_logits", "jsd", "l1"]
LOG_2 = math.log(2)
LEAST_LOG = -1e30  # stands for the logarithm of 0 where a difference of logarithms would be NaN


def plain_rows(loss: Loss, ours: Tensor, theirs: Tensor) -> Tensor:
    """Compute the distance of each row from logits (B, H, M, N) of both sides: (B, H, M)."""
    return _PLAIN[loss](ours, theirs).sum(dim=-1)


def _plain_ce(ours: Tensor, theirs: Tensor) -> Tensor:
    p_t = theirs.softmax(dim=-1)
    return (-p_t * ours.log_softmax(dim=-1)).masked_fill(p_t == 0, 0)  # 0 log 0 is 0


def _plain_kl(ours: Tensor, theirs: Tensor) -> Tensor:
    log_t = theirs.log_softmax(dim=-1)
    p_t = log_t.exp()
    return (p_t * (log_t - ours.log_softmax(dim=-1))).masked_fill(p_t == 0, 0)


def _plain_jsd(ours: Tensor, theirs: Tensor) -> Tensor:
    log_s, log_t = (logits.log_softmax(dim=-1).clamp_min(LEAST_LOG) for logits in (ours, theirs))
    log_m = torch.logaddexp(log_s, log_t) - LOG_2
    return (log_t.exp() * (log_t - log_m) + log_s.exp() * (log_s - log_m)) / 2


def _plain_l1(ours: Tensor, theirs: Tensor) -> Tensor:
    return (ours.softmax(dim=-1) - theirs.softmax(dim=-1)).abs()


def _plain_mse(ours: Tensor, theirs: Tensor) -> Tensor:
    return (ours.softmax(dim=-1) - theirs.softmax(dim=-1)).square()


def _plain_mse_logits(ours: Tensor, theirs: Tensor) -> Tensor:
    return _difference(ours, theirs).square()


_PLAIN: Mapping[Loss, Callable[[Tensor, Tensor], Tensor]] = {
    "ce": _plain_ce,
    "kl": _plain_kl,
    "mse": _plain_mse,
    "mse_logits": _plain_mse_logits,
    "jsd": _plain_jsd,
    "l1": _plain_l1,
}

Slope = Callable[[], Tensor]


class OfTile(Protocol):
    """One distance on a tile of both maps."""

    def __call__(self, ours: Tensor, theirs: Tensor, *, masked: bool) -> tuple[Tensor, Slope]:
        """Give the sum over a tile's rows, and a function that gives its slope d sum / d `ours`.

        Logits are (..., keys), all keys of each row; `masked` says that some may be -inf. The function
        overwrites what it needs, so it is called once at most.
        """


def _tile_ce(ours: Tensor, theirs: Tensor, *, masked: bool) -> tuple[Tensor, Slope]:
    log_s, p_t = ours.log_softmax(dim=-1), theirs.softmax(dim=-1)
    terms = log_s.neg().mul_(p_t)
    if masked:
        terms.masked_fill_(p_t == 0, 0)  # 0 log 0 is 0
    return terms.sum(), lambda: log_s.exp_().sub_(p_t)


def _tile_kl(ours: Tensor, theirs: Tensor, *, masked: bool) -> tuple[Tensor, Slope]:
    log_s, log_t = ours.log_softmax(dim=-1), theirs.log_softmax(dim=-1)
    p_t = log_t.exp()
    terms = log_t.sub_(log_s).mul_(p_t)
    if masked:
        terms.masked_fill_(p_t == 0, 0)
    return terms.sum(), lambda: log_s.exp_().sub_(p_t)


def _tile_jsd(ours: Tensor, theirs: Tensor, *, masked: bool) -> tuple[Tensor, Slope]:
    log_s, log_t = ours.log_softmax(dim=-1), theirs.log_softmax(dim=-1)
    if masked:
        log_s, log_t = log_s.clamp_min_(LEAST_LOG), log_t.clamp_min_(LEAST_LOG)
    # log P_s - log M is log 2 - log(1 + P_t / P_s): exact where the maps are near each other
    against_s = F.logsigmoid(log_s - log_t).add_(LOG_2)
    against_t = F.logsigmoid(log_t - log_s).add_(LOG_2)
    p_s = log_s.exp_()
    total = (log_t.exp_().mul_(against_t).sum() + (p_s * against_s).sum()) / 2
    return total, lambda: _through_softmax(p_s, against_s.div_(2))


def _tile_l1(ours: Tensor, theirs: Tensor, *, masked: bool) -> tuple[Tensor, Slope]:  # noqa: ARG001  (maps are 0 there)
    p_s = ours.softmax(dim=-1)
    difference = p_s - theirs.softmax(dim=-1)
    return difference.abs().sum(), lambda: _through_softmax(p_s, difference.sign_())


def _tile_mse(ours: Tensor, theirs: Tensor, *, masked: bool) -> tuple[Tensor, Slope]:  # noqa: ARG001  (maps are 0 there)
    p_s = ours.softmax(dim=-1)
    difference = p_s - theirs.softmax(dim=-1)
    return difference.square().sum(), lambda: _through_softmax(p_s, difference.mul_(2))


def _tile_mse_logits(ours: Tensor, theirs: Tensor, *, masked: bool) -> tuple[Tensor, Slope]:
    difference = _difference(ours, theirs) if masked else ours.sub_(theirs)
    return difference.square().sum(), lambda: difference.mul_(2)


OF_TILE: Mapping[Loss, OfTile] = {
    "ce": _tile_ce,
    "kl": _tile_kl,
    "mse": _tile_mse,
    "mse_logits": _tile_mse_logits,
    "jsd": _tile_jsd,
    "l1": _tile_l1,
}


def _difference(ours: Tensor, theirs: Tensor) -> Tensor:
    """Subtract logits; 0 where either side masks the key."""
    masked = (ours == float("-inf")) | (theirs == float("-inf"))
    return (ours - theirs).masked_fill(masked, 0)


def _through_softmax(p: Tensor, slope: Tensor) -> Tensor:
    """Turn a slope by probabilities `p` into one by their logits: p (slope - sum_j p_j slope_j)."""
    mean = (p * slope).sum(dim=-1, keepdim=True)
    return slope.sub_(mean).mul_(p)
