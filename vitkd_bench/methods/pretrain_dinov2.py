"""Pretraining by self-distillation at its most refined: DINOv2 (Oquab et al., TMLR 2024, arXiv:2304.07193).

Kept: DINO between views and iBOT on masked patches with separate heads, Sinkhorn-Knopp in place of
centring, the KoLeo term that spreads images apart, the average published. With registers (arXiv:2309.16588)
the objective is the same and the architecture differs. Changed: the heads read the mean of the patch tokens
for the class token and are standardised over the batch. Left out: local crops. Not possible at this scale:
65,536 prototypes, 142 million curated images, the final phase at high resolution, and the distillation of
small models from a giant one.
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
from vitkd_bench.methods._prototypes import (
    PrototypeHead,
    PrototypeSettings,
    koleo_loss,
    prototype_loss,
    sinkhorn_knopp,
)
from vitkd_bench.methods._stages import embed, open_layer_scale, patch_tokens, stages
from vitkd_bench.registry import METHODS


@METHODS.register(
    "pretrain_dinov2",
    title="Pretraining: DINO, iBOT, KoLeo and Sinkhorn-Knopp (DINOv2)",
    kind="pretraining",
    paper="arXiv:2304.07193",
    reads_teacher=False,
)
class PretrainDINOv2(Method, nn.Module):
    """Assignments of views and of masked patches, all prototypes used alike, images spread apart."""

    views = 2

    class Config(MaskSettings, PrototypeSettings):
        koleo_weight: float = Field(default=0.1, ge=0, description="of the term that spreads images apart")
        prototypes: int = Field(
            default=128, gt=1, description="vectors that an image or patch is assigned to"
        )

    def __init__(self, config: Config, cell: CellFacts) -> None:
        """Draw the heads and the mask token; the averages start in `fit`."""
        super().__init__(config, cell)
        width = cell.student.size.width
        sizes = (width, config.hidden, config.bottleneck, config.prototypes)
        self.heads = nn.ModuleDict({"views": PrototypeHead(*sizes), "patches": PrototypeHead(*sizes)})
        self.heads_average = average_of(self.heads)
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.average: nn.Module = nn.Identity()

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
        features = stages(student).pool(encoded)
        targets, patch_targets = self.targets(both, mask)
        swapped = torch.cat([*reversed(targets.chunk(2))])
        temperature = self.config.student_temperature
        masked = prototype_loss(
            self.heads["patches"](patch_tokens(student, encoded)[mask]), patch_targets, temperature
        )
        spread = sum(koleo_loss(view) for view in features.chunk(2))
        return {
            "dino": prototype_loss(self.heads["views"](features), swapped, temperature),
            "masked": self.config.masked_weight * masked,
            "koleo": self.config.koleo_weight * torch.as_tensor(spread),
        }

    @torch.no_grad()
    def targets(self, pixels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Give the average's balanced assignments of images (B, K) and of masked patches (M, K)."""
        average = cast("Network", self.average.eval())
        encoded = stages(average).encode(embed(average, pixels))
        scores = self.heads_average["views"](stages(average).pool(encoded))
        patch_scores = self.heads_average["patches"](patch_tokens(average, encoded)[mask])
        temperature = self.config.teacher_temperature
        return sinkhorn_knopp(scores, temperature), sinkhorn_knopp(patch_scores, temperature)

    def after_step(self, student: Network, progress: float) -> None:
        momentum = momentum_at(self.config.momentum, progress)
        move_average(self.average, cast("nn.Module", student), momentum)
        move_average(self.heads_average, self.heads, momentum)

    def result(self, student: Network) -> Network:
        """Give the average: it is what DINOv2 publishes."""
        return cast("Network", self.average)
