"""Pretraining by contrast with text: CLIP (Radford et al., ICML 2021, arXiv:2103.00020).

Kept: an image tower and a text tower meet in a softmax over the batch in both directions, with a learned
scale; the classifier is made of text. Changed: the texts are class names, read by a tower of letters and
not by a transformer; as all images of a class share one text, the softmax over texts has each name once,
and the softmax over images counts all images of the name as right. Not possible at this scale: 400 million
captions, hence any word beyond class names, and the transfer without examples that CLIP is known for.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vitkd_bench.contracts import Batch, CellFacts, Features, Method, Network
from vitkd_bench.methods._stages import open_layer_scale, pooled, stages
from vitkd_bench.methods._text import ImageText
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings


def clip_loss(images: Tensor, texts: Tensor, labels: Tensor, scale: Tensor | float) -> Tensor:
    """Symmetric contrast of images (B, E) with class texts (K, E), unit vectors, in nats.

    Mean of two cross-entropies of scale x cosine: each image picks its text among those of the batch's
    classes, mean over images; each such text picks its images among the batch, the mean over its own
    images, then over texts. With one image a class this is the loss of arXiv:2103.00020, figure 3.
    """
    present, own = labels.unique(return_inverse=True)
    scores = scale * images @ texts[present].T
    of_images = F.cross_entropy(scores, own)
    right = F.one_hot(own, len(present)).to(scores.dtype)
    of_texts = -(F.log_softmax(scores, dim=0) * right).sum(dim=0) / right.sum(dim=0)
    return (of_images + of_texts.mean()) / 2


@METHODS.register(
    "pretrain_clip",
    title="Pretraining: softmax contrast with class names (CLIP)",
    kind="pretraining",
    paper="arXiv:2103.00020",
    reads_teacher=False,
    needs=("plain_labels",),
)
class PretrainCLIP(Method, nn.Module):
    """Images and class names meet in a softmax over the batch; the head is written from the names."""

    class Config(Settings):
        embedding: int = Field(default=32, gt=0, description="width in which images and names meet")
        scale: float = Field(default=10.0, gt=0, description="of cosines at the start; learned, at most 100")

    def __init__(self, config: Config, cell: CellFacts) -> None:
        """Draw the projection and the text tower."""
        super().__init__(config, cell)
        names = [info.name for info in cell.dataset.classes]
        self.towers = ImageText(names, cell.student.size.width, config.embedding, config.scale, 0.0)
        self.towers.bias.requires_grad_(False)

    def fit(self, student: Network, teacher: Network | None, batches: Iterable[Batch]) -> None:
        open_layer_scale(student)

    def step(self, student: Network, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        images, texts = self.towers(pooled(student, batch.pixels))
        return {"contrast": clip_loss(images, texts, batch.labels, self.towers.scale)}

    def result(self, student: Network) -> Network:
        """Give the student, its head made of the class names' embeddings."""
        self.towers.write_head(stages(student).head)
        return student
