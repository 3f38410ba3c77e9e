"""Leaving patches out: random masks, and tokens that show a masked patch's place but not its pixels."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from vitkd_bench.contracts import Network
from vitkd_bench.methods._stages import embed
from vitkd_bench.spec import Settings


class MaskSettings(Settings):
    """Settings of masked self-distillation, in iBOT and DINOv2."""

    mask_ratio: float = Field(default=0.4, gt=0, lt=1, description="share of the patches of a masked image")
    masked_images: float = Field(default=0.5, gt=0, le=1, description="share of the images that are masked")
    masked_weight: float = Field(default=1.0, ge=0, description="of the patches' loss, against 1 for views")


def random_mask(images: int, patches: int, ratio: float, device: torch.device | None = None) -> Tensor:
    """Draw one mask an image, (B, P) booleans, true in round(ratio P) places: at least 1, at most P - 1.

    Draws come from torch's global generator.
    """
    masked = min(max(round(ratio * patches), 1), patches - 1)
    order = torch.rand(images, patches, device=device).argsort(dim=1)
    return order.argsort(dim=1) < masked


def masked_embedding(network: Network, pixels: Tensor, mask: Tensor, mask_token: nn.Parameter) -> Tensor:
    """Embed pixels (B, C, H, W) in [0, 1] with masked patches, (B, P) true where masked, replaced: (B, N, D).

    A masked patch becomes what an image of mean colour would give at its place, plus the learned
    `mask_token` (D,): it keeps its position and whatever norm follows, and says nothing of its pixels.
    """
    tokens = embed(network, pixels)
    blank = torch.ones_like(pixels[:1]) * pixels.mean()
    empty = embed(network, blank) + mask_token
    prefix = network.architecture.prefix
    replaced = nn.functional.pad(mask, (prefix, 0))
    return torch.where(replaced.unsqueeze(-1), empty, tokens)


def partial_mask(
    images: int, patches: int, ratio: float, share: float, device: torch.device | None = None
) -> Tensor:
    """Draw `random_mask` for the share of the images that is masked, at least 2 of them; none for the others.

    Which images are masked is drawn anew each time, from torch's global generator: (B, P) of booleans.
    """
    masked = min(max(round(share * images), 2), images)
    chosen = torch.rand(images, device=device).argsort().argsort() < masked
    return random_mask(images, patches, ratio, device) & chosen.unsqueeze(1)


def window_tokens(tokens: Tensor, prefix: int, grid: int, side: int) -> Tensor:
    """Keep a square window of side^2 patches of each image, at a place of its own: (B, prefix + side^2, D).

    What a local crop is to an image of thousands of pixels, for one of 4 x 4 patches: the student sees a
    part, at its true place. Places come from torch's global generator.
    """
    corner = torch.randint(0, grid - side + 1, (2, len(tokens)), device=tokens.device)
    step = torch.arange(side, device=tokens.device)
    rows, columns = corner[0, :, None] + step, corner[1, :, None] + step
    inside = (rows[:, :, None] * grid + columns[:, None, :]).flatten(1) + prefix
    kept = tokens.gather(1, inside.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
    return torch.cat([tokens[:, :prefix], kept], dim=1)
