"""Pretraining by contrast of views: MoCo v3 (Chen, Xie and He, ICCV 2021, arXiv:2104.02057).

Kept: two views, a momentum encoder for keys, projector and predictor, InfoNCE over the batch in both
directions, the frozen random patch projection that its paper found to stabilise ViTs. Changed: the
projector reads the mean of the patch tokens, and batch norm in the heads has no scale, shift or running
statistics. Not possible at this scale: batches of 4096, so few negatives are seen at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vitkd_bench.contracts import Batch, CellFacts, Features, Method, Network
from vitkd_bench.methods._average import average_of, momentum_at, move_average
from vitkd_bench.methods._heads import projection_head
from vitkd_bench.methods._stages import open_layer_scale, pooled, stages
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings


def info_nce_loss(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Pick each query's own key among all keys of the batch: (B, E) each, in nats, mean over the batch.

    Cosines over the temperature, keys detached, times 2 x temperature (moco-v3 `moco/builder.py`,
    `contrastive_loss`; van den Oord et al., arXiv:1807.03748).
    """
    similar = F.normalize(queries, dim=1) @ F.normalize(keys.detach(), dim=1).T / temperature
    own = torch.arange(len(queries), device=queries.device)
    return 2 * temperature * F.cross_entropy(similar, own)


@METHODS.register(
    "pretrain_mocov3",
    title="Pretraining: contrast of views (MoCo v3)",
    kind="pretraining",
    paper="arXiv:2104.02057",
    reads_teacher=False,
)
class PretrainMoCoV3(Method, nn.Module):
    """InfoNCE between predicted queries of one view and momentum keys of the other."""

    views = 2

    class Config(Settings):
        embedding: int = Field(default=64, gt=0, description="width in which views are compared")
        hidden: int = Field(default=128, gt=0, description="width of the heads' hidden layer")
        temperature: float = Field(default=0.2, gt=0, description="of the softmax over keys")
        momentum: float = Field(
            default=0.98, ge=0, lt=1, description="of the key encoder at the start; ends at 1"
        )

    def __init__(self, config: Config, cell: CellFacts) -> None:
        """Draw the heads; the key encoder starts in `fit`."""
        super().__init__(config, cell)
        self.projector = projection_head(cell.student.size.width, config.hidden, config.embedding)
        self.predictor = projection_head(config.embedding, config.hidden, config.embedding)
        self.projector_average = average_of(self.projector)
        self.average: nn.Module = nn.Identity()

    def fit(self, student: Network, teacher: Network | None, batches: Iterable[Batch]) -> None:
        """Freeze the patch projection as it was drawn, and start the key encoder."""
        open_layer_scale(student)
        stages(student).patch_embed.requires_grad_(requires_grad=False)
        self.average = average_of(cast("nn.Module", student))

    def step(self, student: Network, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        both = torch.cat([batch.pixels, batch.views[0]])
        first, second = self.predictor(self.projector(pooled(student, both))).chunk(2)
        with torch.no_grad():
            keys = self.projector_average(pooled(cast("Network", self.average.eval()), both))
        of_first, of_second = keys.chunk(2)
        temperature = self.config.temperature
        return {
            "contrast": info_nce_loss(first, of_second, temperature)
            + info_nce_loss(second, of_first, temperature)
        }

    def after_step(self, student: Network, progress: float) -> None:
        momentum = momentum_at(self.config.momentum, progress)
        move_average(self.average, cast("nn.Module", student), momentum)
        move_average(self.projector_average, self.projector, momentum)
