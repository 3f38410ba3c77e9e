"""Similarity-preserving distillation: which images look alike (Tung and Mori, arXiv:1907.09682)."""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vitkd_bench.contracts import Batch, Features
from vitkd_bench.methods._precision import in_full_precision
from vitkd_bench.methods._vectors import Vectors, VectorSettings, VectorTransfer, at_least_two
from vitkd_bench.registry import METHODS

PUBLISHED_BATCH = 64  # at which 3000 was chosen


@in_full_precision
def sp_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference of the similarities of images, on features (B, ...) flattened; widths may differ.

    The Gram matrix of each side with rows brought to L2 length 1; squares summed over B x B entries and
    divided by B^2, so that the value is at most 4 / B. No unit. The teacher is detached. Orthogonal maps and
    one common scale of either side change nothing; a translation, or a scale of its own for each image, does.
    Source: arXiv:1907.09682, equations 1 to 4; HobbitLong/RepDistiller distiller_zoo/SP.py.

    Raises:
        ValueError: a batch of one.
    """
    at_least_two(student, "sp")
    return F.mse_loss(_similarities(student), _similarities(teacher.detach()))


def _similarities(features: Tensor) -> Tensor:
    vectors = features.flatten(1)
    return F.normalize(vectors @ vectors.mT, dim=1)


@METHODS.register(
    "sp",
    title="Similarity-preserving distillation",
    kind="relation",
    paper="arXiv:1907.09682",
    needs=("batch",),
    budget="weight: 6 trials of 3000 x {0, .1, .3, 1, 3, 10}; vectors: {pooled, last:1, all}",
)
class SimilarityPreserving(VectorTransfer):
    """Label loss + weight x B / 64 x the sum over pairs of blocks of `sp_loss`.

    The loss falls as 1 / B, so the weight, published for batches of 64, is multiplied by B / 64: the gradient
    on an image stays what it was there. Read by default, as published, at the last map before pooling: the
    flattened patch tokens after the last block.

    The weight was tuned for CNNs on CIFAR-100 (RepDistiller): on digits (one seed) it was below no teacher at
    all, a tenth of it not. Search it.
    """

    name = "sp"
    relation = sp_loss

    class Config(VectorSettings):
        weight: float = Field(
            default=3000.0, ge=0, description="at a batch of 64; the task loss weighs 1 at any batch"
        )
        vectors: Vectors = Field(
            default="last:1",
            description="what stands for an image: blocks, or pooled for what the head reads",
        )

    def transferred(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        return len(batch.labels) / PUBLISHED_BATCH * super().transferred(student, teacher, batch)
