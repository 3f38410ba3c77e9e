"""Pretraining by self-distillation without labels: DINO (Caron et al., ICCV 2021, arXiv:2104.14294).

Kept: a student that predicts, from one view, what its own moving average says of another; a local view
beside the two global ones, judged against both; centring and sharpening against collapse; the average is
published. Changed: the local view is a window of 3 x 3 patches at their true places, as a crop of an 8 x 8
image has nothing to enlarge; the head reads the mean of the patch tokens, which is what every comparison
here reads, in place of the class token, and is standardised over the batch. Not possible at this scale:
65,536 prototypes, hundreds of epochs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from pydantic import Field
from torch import Tensor, nn

from vitkd_bench.contracts import Batch, CellFacts, Features, Method, Network
from vitkd_bench.methods._average import average_of, momentum_at, move_average
from vitkd_bench.methods._masking import window_tokens
from vitkd_bench.methods._prototypes import PrototypeHead, PrototypeSettings, prototype_loss, sharpened
from vitkd_bench.methods._stages import embed, open_layer_scale, pooled, stages
from vitkd_bench.registry import METHODS


@METHODS.register(
    "pretrain_dino",
    title="Pretraining: self-distillation (DINO)",
    kind="pretraining",
    paper="arXiv:2104.14294",
    reads_teacher=False,
)
class PretrainDino(Method, nn.Module):
    """Cross-entropy between the prototype assignments of two views, teacher centred and sharpened."""

    views = 2

    class Config(PrototypeSettings):
        window: int = Field(default=3, ge=0, description="side in patches of the local view; 0 leaves it out")
        centre_momentum: float = Field(default=0.9, ge=0, lt=1, description="of the running mean of scores")

    centre: Tensor

    def __init__(self, config: Config, cell: CellFacts) -> None:
        """Draw the head; the averages start in `fit`."""
        super().__init__(config, cell)
        width = cell.student.size.width
        self.head = PrototypeHead(width, config.hidden, config.bottleneck, config.prototypes)
        self.head_average = average_of(self.head)
        self.average: nn.Module = nn.Identity()
        self.register_buffer("centre", torch.zeros(config.prototypes))

    @classmethod
    def refuses(cls, config: Config, cell: CellFacts) -> str | None:
        if config.window > cell.student.grid:
            grid = cell.student.grid
            return f"window {config.window} is larger than the student's grid of {grid} x {grid} patches"
        if config.window and cell.student.components.relative_position_bias:
            return "a window leaves tokens out, and a relative position bias needs all of them; set window: 0"
        return None

    def fit(self, student: Network, teacher: Network | None, batches: Iterable[Batch]) -> None:
        open_layer_scale(student)
        self.average = average_of(cast("nn.Module", student))

    def step(self, student: Network, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        both = torch.cat([batch.pixels, batch.views[0]])
        tokens = embed(student, both)
        of_first, of_second = self.targets(both).chunk(2)
        swapped = torch.cat([of_second, of_first])
        temperature = self.config.student_temperature
        crossed = prototype_loss(self.scores(student, tokens), swapped, temperature)
        if not self.config.window:
            return {"dino": crossed}
        facts = self.cell.student
        local = self.scores(student, window_tokens(tokens, facts.prefix, facts.grid, self.config.window))
        mean_target = torch.cat([of_first + of_second] * 2) / 2
        return {"dino": crossed, "local": prototype_loss(local, mean_target, temperature)}

    def scores(self, student: Network, tokens: Tensor) -> Tensor:
        """Score embedded tokens (B, N, D), all of an image's or a window of them: (B, K)."""
        vit = stages(student)
        found: Tensor = self.head(vit.pool(vit.encode(tokens)))
        return found

    @torch.no_grad()
    def targets(self, pixels: Tensor) -> Tensor:
        """Give the average's assignments (B, K) of pixels, and move the centre."""
        scores = self.head_average(pooled(cast("Network", self.average.eval()), pixels))
        probabilities = sharpened(scores, self.centre, self.config.teacher_temperature)
        self.centre.lerp_(scores.mean(dim=0), 1 - self.config.centre_momentum)
        return probabilities

    def after_step(self, student: Network, progress: float) -> None:
        momentum = momentum_at(self.config.momentum, progress)
        move_average(self.average, cast("nn.Module", student), momentum)
        move_average(self.head_average, self.head, momentum)

    def result(self, student: Network) -> Network:
        """Give the average: it is what DINO publishes."""
        return cast("Network", self.average)
