"""Pretraining by pairwise contrast with text: SigLIP 2 (Tschannen et al., 2025, arXiv:2502.14786).

Kept: every image meets every text in a sigmoid of its own with learned scale and bias (SigLIP,
arXiv:2303.15343); for the last fifth of training the student also predicts, for masked patches, the tokens
of its own moving average (the self-distillation that SigLIP 2 takes from TIPS and SILC). Changed: texts are
class names, as in `pretrain_clip`; cosines of tokens stand for prototypes. Left out: the captioning decoder
(LocCa), which has nothing to say about class names; the local-to-global crops; the attention pool, so that
one pooling serves all families (docs/protocol.md). Not possible at this scale: 10 billion images in 109
languages.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vitkd_bench.contracts import Batch, CellFacts, Features, Method, Network
from vitkd_bench.methods._average import average_of, move_average
from vitkd_bench.methods._masking import masked_embedding, random_mask
from vitkd_bench.methods._stages import embed, open_layer_scale, patch_tokens, pooled, stages
from vitkd_bench.methods._text import ImageText
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings


def siglip_loss(
    images: Tensor, texts: Tensor, labels: Tensor, scale: Tensor | float, bias: Tensor | float
) -> Tensor:
    """Sigmoid loss of images (B, E) with the texts (K, E) of the batch's classes, unit vectors, in nats.

    -log sigmoid(z (scale x cosine + bias)), z = 1 for an image with its own text and -1 otherwise; summed
    over texts, mean over images (arXiv:2303.15343, algorithm 1).
    """
    present, own = labels.unique(return_inverse=True)
    scores = scale * images @ texts[present].T + bias
    sign = 2 * F.one_hot(own, len(present)).to(scores.dtype) - 1
    return -F.logsigmoid(sign * scores).sum(dim=1).mean()


def masked_token_loss(guess: Tensor, target: Tensor) -> Tensor:
    """One minus the cosine of tokens (M, D) with detached targets, mean over tokens; between 0 and 2."""
    return 1 - F.cosine_similarity(guess, target.detach(), dim=-1).mean()


@METHODS.register(
    "pretrain_siglip2",
    title="Pretraining: sigmoid contrast with class names, masked tokens (SigLIP 2)",
    kind="pretraining",
    paper="arXiv:2502.14786",
    reads_teacher=False,
    needs=("plain_labels",),
)
class PretrainSigLIP2(Method, nn.Module):
    """A sigmoid for each pair of image and class name; masked self-distillation joins in late."""

    class Config(Settings):
        embedding: int = Field(default=32, gt=0, description="width in which images and names meet")
        scale: float = Field(default=10.0, gt=0, description="of cosines at the start; learned, at most 100")
        bias: float = Field(default=-5.0, description="added to scaled cosines at the start; learned")
        masked_from: float = Field(
            default=0.8, ge=0, le=1, description="share of training before masks set in"
        )
        masked_weight: float = Field(default=1.0, ge=0, description="of the masked tokens' loss")
        mask_ratio: float = Field(default=0.5, gt=0, lt=1, description="share of the patches that are masked")
        momentum: float = Field(default=0.98, ge=0, lt=1, description="of the average, constant")

    def __init__(self, config: Config, cell: CellFacts) -> None:
        """Draw projection, text tower and predictor; the average starts in `fit`."""
        super().__init__(config, cell)
        width = cell.student.size.width
        names = [info.name for info in cell.dataset.classes]
        self.towers = ImageText(names, width, config.embedding, config.scale, config.bias)
        self.predict = nn.Linear(width, width)
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.average: nn.Module = nn.Identity()

    def fit(self, student: Network, teacher: Network | None, batches: Iterable[Batch]) -> None:
        open_layer_scale(student)
        self.average = average_of(cast("nn.Module", student))

    def step(self, student: Network, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        images, texts = self.towers(pooled(student, batch.pixels))
        losses = {"contrast": siglip_loss(images, texts, batch.labels, self.towers.scale, self.towers.bias)}
        if batch.progress >= self.config.masked_from:
            losses["masked"] = self.config.masked_weight * self.masked_loss(student, batch.pixels)
        return losses

    def masked_loss(self, student: Network, pixels: Tensor) -> Tensor:
        """Let the student guess the average's tokens of patches that it does not see."""
        mask = random_mask(len(pixels), self.cell.student.grid**2, self.config.mask_ratio, pixels.device)
        encoded = stages(student).encode(masked_embedding(student, pixels, mask, self.mask_token))
        average = cast("Network", self.average.eval())
        with torch.no_grad():
            target = patch_tokens(average, stages(average).encode(embed(average, pixels)))
        return masked_token_loss(self.predict(patch_tokens(student, encoded)[mask]), target[mask])

    def after_step(self, student: Network, progress: float) -> None:
        move_average(self.average, cast("nn.Module", student), self.config.momentum)

    def result(self, student: Network) -> Network:
        """Give the student, its head made of the class names' embeddings."""
        self.towers.write_head(stages(student).head)
        return student
