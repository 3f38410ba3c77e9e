"""Stored outputs: the teacher's largest probabilities for all that a run will see (arXiv:2207.10666)."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from vitkd_bench.contracts import Method
from vitkd_bench.methods._precision import at_least_single
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings

MOST_IN_INT16 = 32_767
"""Classes up to which an index takes two bytes."""


def largest(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Give the k largest softmax probabilities of logits (B, K) and their classes, both (B, min(k, K)).

    Float32 or more, and int64; the largest first.
    """
    top = at_least_single(logits).softmax(dim=-1).topk(min(k, logits.shape[-1]), dim=-1)
    return top.values, top.indices


def packed(probabilities: Tensor, classes: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Give them as they are stored: probabilities in float16, classes in int16 if `count` of them fit.

    Source: microsoft/Cream TinyViT/save_logits.py, which stores int16 whatever the number of classes.
    """
    index = torch.int16 if count <= MOST_IN_INT16 else torch.int32
    return probabilities.half(), classes.to(index)


def spread(probabilities: Tensor, classes: Tensor, count: int) -> Tensor:
    """Give probabilities (B, `count`) of all classes: the mass that is left is the same for each other class.

    Of the k kept ones (B, k) with their classes (B, k), (1 - their sum) / (count - k); where rounding brings
    the sum above 1, nothing is left. Source: TinyViT/main.py.
    """
    kept = at_least_single(probabilities)
    others = count - kept.shape[-1]
    rest = (1 - kept.sum(dim=-1, keepdim=True)).clamp(min=0) / max(others, 1)
    return rest.repeat(1, count).scatter(-1, classes.long(), kept)


@METHODS.register(
    "stored_outputs",
    title="Stored outputs of a teacher",
    kind="store",
    paper="arXiv:2207.10666",
    needs=("logits",),
    budget="0: nothing is learnt",
)
class StoredOutputs(Method):
    """Runs the teacher once over all that a training run will see, and keeps what it says of it.

    An augmented view is a function of (seed, epoch, sample), so a run of the same data, recipe and seed meets
    the pixels that the outputs belong to. For each epoch and training image `k` probabilities in float16 and
    as many class indices are kept; 1.28 million images, 300 epochs and k = 10 are 15 GB. They are written and
    read an epoch at a time (51 MB of that).
    """

    class Config(Settings):
        k: int = Field(
            default=10, ge=1, description="probabilities kept of each image; all, where there are no more"
        )
