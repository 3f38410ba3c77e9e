"""Pretraining by filling in pixels: masked autoencoder, MAE (He et al., CVPR 2022, arXiv:2111.06377).

Kept: most patches are dropped before the encoder, a light decoder sees mask tokens in their places, the
squared error counts masked patches alone, the decoder is thrown away. Changed: half the patches are masked
and not three quarters (four patches of 2 x 2 pixels say too little of a digit); targets are pixels
normalised over the data set and not over each patch (a patch has four). Not possible at this scale: 800 to
1600 epochs.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vitkd_bench.contracts import Batch, CellFacts, Features, Method, Network
from vitkd_bench.methods._masking import random_mask
from vitkd_bench.methods._stages import embed, open_layer_scale, patch_tokens, stages
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings


def patches_of(pixels: Tensor, patch: int) -> Tensor:
    """Cut images (B, C, H, W) into patches, row by row: (B, P, patch^2 C), in the order of the tokens."""
    return F.unfold(pixels, kernel_size=patch, stride=patch).transpose(1, 2)


def masked_pixel_loss(guess: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Squared error of patches (B, P, M), mean over pixels and the patches where `mask` (B, P) is true."""
    error = (guess - target).square().mean(dim=-1)
    return (error * mask).sum() / mask.sum()


class _Decoder(nn.Module):
    """One transformer block over all places, a learned position each, then the pixels of each patch."""

    def __init__(self, width: int, decoder_width: int, patches: int, pixels: int) -> None:
        super().__init__()
        self.enter = nn.Linear(width, decoder_width)
        self.mask_token = nn.Parameter(torch.zeros(decoder_width))
        self.position = nn.Parameter(torch.randn(patches, decoder_width) * 0.3)
        self.block = nn.TransformerEncoderLayer(
            decoder_width,
            2,
            2 * decoder_width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.leave = nn.Sequential(nn.LayerNorm(decoder_width), nn.Linear(decoder_width, pixels))

    def forward(self, visible: Tensor, mask: Tensor) -> Tensor:
        """Place visible patches (B, V, D) where `mask` (B, P) is false; give all patches (B, P, M)."""
        entered = self.enter(visible)
        images, patches = mask.shape
        tokens = self.mask_token.expand(images, patches, -1)
        tokens = tokens.masked_scatter(~mask.unsqueeze(-1), entered.to(tokens.dtype))
        pixels: Tensor = self.leave(self.block(tokens + self.position))
        return pixels


@METHODS.register(
    "pretrain_mae",
    title="Pretraining: masked pixels (MAE)",
    kind="pretraining",
    paper="arXiv:2111.06377",
    reads_teacher=False,
)
class PretrainMAE(Method, nn.Module):
    """Mean squared error of the pixels of dropped patches."""

    class Config(Settings):
        mask_ratio: float = Field(
            default=0.5, gt=0, lt=1, description="share of the patches that are dropped"
        )
        decoder_width: int = Field(
            default=32, gt=0, multiple_of=2, description="width of the decoder, of two heads"
        )

    def __init__(self, config: Config, cell: CellFacts) -> None:
        """Draw the decoder."""
        super().__init__(config, cell)
        student = cell.student
        pixels = student.patch**2 * student.channels
        self.decoder = _Decoder(student.size.width, config.decoder_width, student.grid**2, pixels)

    @classmethod
    def refuses(cls, config: Config, cell: CellFacts) -> str | None:
        if cell.student.components.relative_position_bias:
            return (
                "pretrain_mae drops tokens before the blocks, and a relative position bias needs all of them"
            )
        return None

    def fit(self, student: Network, teacher: Network | None, batches: Iterable[Batch]) -> None:
        open_layer_scale(student)

    def step(self, student: Network, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        facts = self.cell.student
        mask = random_mask(len(batch.pixels), facts.grid**2, self.config.mask_ratio, batch.pixels.device)
        tokens = embed(student, batch.pixels)
        images, _, width = tokens.shape
        visible = tokens[:, facts.prefix :][~mask].view(images, -1, width)
        encoded = stages(student).encode(torch.cat([tokens[:, : facts.prefix], visible], dim=1))
        stats = self.cell.dataset.pixels
        mean, deviation = (batch.pixels.new_tensor(v).view(1, -1, 1, 1) for v in (stats.mean, stats.std))
        target = patches_of((batch.pixels - mean) / deviation, facts.patch)
        guess = self.decoder(patch_tokens(student, encoded), mask)
        return {"pixels": masked_pixel_loss(guess, target, mask)}
