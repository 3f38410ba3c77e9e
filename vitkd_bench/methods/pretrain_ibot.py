"""Pretraining by self-distillation with masked tokens: iBOT (Zhou et al., ICLR 2022, arXiv:2111.07832).

Kept: DINO between views, and beside it the masked student's patch tokens predict the average's assignments
of the same patches unmasked, through one shared head; centring and sharpening of each; half the images stay
unmasked; the average is published. Changed and not possible: as for `pretrain_dino` (mean of patch tokens
for the class token, a head standardised over the batch, few prototypes); masks are random patches, not
blocks, on a grid of 4 x 4. Left out: local crops.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from pydantic import Field
from torch import Tensor, nn

from vitkd_bench.contracts import Batch, CellFacts, Features, Method, Network
from vitkd_bench.methods._average import average_of, momentum_at, move_average
from vitkd_bench.methods._masking import MaskSettings, masked_embedding, partial_mask
from vitkd_bench.methods._prototypes import PrototypeHead, PrototypeSettings, prototype_loss, sharpened
from vitkd_bench.methods._stages import embed, open_layer_scale, patch_tokens, stages
from vitkd_bench.registry import METHODS


@METHODS.register(
    "pretrain_ibot",
    title="Pretraining: self-distillation with masked tokens (iBOT)",
    kind="pretraining",
    paper="arXiv:2111.07832",
    reads_teacher=False,
)
class PretrainIBOT(Method, nn.Module):
    """Assignments of whole views across views, and of masked patches within a view."""

    views = 2

    class Config(MaskSettings, PrototypeSettings):
        centre_momentum: float = Field(default=0.9, ge=0, lt=1, description="of the running means of scores")

    centre: Tensor
    patch_centre: Tensor

    def __init__(self, config: Config, cell: CellFacts) -> None:
        """Draw the head and the mask token; the averages start in `fit`."""
        super().__init__(config, cell)
        width = cell.student.size.width
        self.head = PrototypeHead(width, config.hidden, config.bottleneck, config.prototypes)
        self.head_average = average_of(self.head)
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.average: nn.Module = nn.Identity()
        self.register_buffer("centre", torch.zeros(config.prototypes))
        self.register_buffer("patch_centre", torch.zeros(config.prototypes))

    def fit(self, student: Network, teacher: Network | None, batches: Iterable[Batch]) -> None:
        open_layer_scale(student)
        self.average = average_of(cast("nn.Module", student))

    def step(self, student: Network, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        both = torch.cat([batch.pixels, batch.views[0]])
        patches = self.cell.student.grid**2
        mask = partial_mask(
            len(both), patches, self.config.mask_ratio, self.config.masked_images, both.device
        )
        encoded = stages(student).encode(masked_embedding(student, both, mask, self.mask_token))
        views = self.head(stages(student).pool(encoded))
        masked = self.head(patch_tokens(student, encoded)[mask])
        targets, patch_targets = self.targets(both, mask)
        swapped = torch.cat([*reversed(targets.chunk(2))])
        temperature = self.config.student_temperature
        return {
            "dino": prototype_loss(views, swapped, temperature),
            "masked": self.config.masked_weight * prototype_loss(masked, patch_targets, temperature),
        }

    @torch.no_grad()
    def targets(self, pixels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Give the average's assignments of images (B, K) and masked patches (M, K); move both centres."""
        average = cast("Network", self.average.eval())
        encoded = stages(average).encode(embed(average, pixels))
        scores = self.head_average(stages(average).pool(encoded))
        patch_scores = self.head_average(patch_tokens(average, encoded)[mask])
        temperature = self.config.teacher_temperature
        found = (
            sharpened(scores, self.centre, temperature),
            sharpened(patch_scores, self.patch_centre, temperature),
        )
        self.centre.lerp_(scores.mean(dim=0), 1 - self.config.centre_momentum)
        self.patch_centre.lerp_(patch_scores.mean(dim=0), 1 - self.config.centre_momentum)
        return found

    def after_step(self, student: Network, progress: float) -> None:
        momentum = momentum_at(self.config.momentum, progress)
        move_average(self.average, cast("nn.Module", student), momentum)
        move_average(self.head_average, self.head, momentum)

    def result(self, student: Network) -> Network:
        """Give the average: it is what iBOT publishes."""
        return cast("Network", self.average)
