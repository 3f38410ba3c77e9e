"""Probabilistic knowledge transfer: who is whose neighbour (Passalis and Tefas, arXiv:1803.10837)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from vitkd_bench.methods._precision import in_full_precision
from vitkd_bench.methods._vectors import VectorSettings, VectorTransfer, at_least_two, unit
from vitkd_bench.registry import METHODS


@in_full_precision
def pkt_loss(student: Tensor, teacher: Tensor, eps: float = 1e-7) -> Tensor:
    """KL of the student's neighbourhoods from the teacher's, on features (B, ...) flattened, in nats.

    An image's neighbourhood is the distribution over the batch, itself included, that is proportional to
    (1 + cosine) / 2; `eps` is added to probabilities inside the logarithm. Summed over neighbours, mean over
    images. The teacher is detached. Rotations, and a positive scale of its own for each image, change
    nothing. Source: arXiv:1803.10837, equations 3 to 8; HobbitLong/RepDistiller distiller_zoo/PKT.py, which
    takes the mean over B^2 instead (B times less).

    Raises:
        ValueError: a batch of one.
    """
    at_least_two(student, "pkt")
    ours, theirs = _neighbours(student), _neighbours(teacher.detach())
    return (theirs * ((theirs + eps) / (ours + eps)).log()).sum(dim=1).mean()


def _neighbours(features: Tensor) -> Tensor:
    vectors = unit(features.flatten(1))
    kernel = ((vectors @ vectors.mT + 1) / 2).clamp_min(0)  # rounding takes opposite vectors below 0
    return kernel / kernel.sum(dim=1, keepdim=True)


@METHODS.register(
    "pkt",
    title="Probabilistic knowledge transfer",
    kind="relation",
    paper="arXiv:1803.10837",
    needs=("batch",),
    budget="weight: 6 trials of 470 x {0, .1, .3, 1, 3, 10}; vectors: {pooled, last:1, all}",
)
class ProbabilisticTransfer(VectorTransfer):
    """Label loss + weight x the sum over pairs of vectors of `pkt_loss`.

    The released weight, 30000 on a mean over B^2 at batches of 64, is 469 on a mean over images; so written
    it holds at any batch. It was tuned for CNNs on CIFAR-100 (RepDistiller): on digits (one seed) it was
    below no teacher at all, a tenth of it not. Search it.
    """

    name = "pkt"
    relation = pkt_loss

    class Config(VectorSettings):
        weight: float = Field(
            default=470.0, ge=0, description="of the mean KL of an image; the task loss weighs 1"
        )
