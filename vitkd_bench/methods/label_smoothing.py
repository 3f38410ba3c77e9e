"""Label smoothing: the uniform distribution as teacher (Szegedy et al., arXiv:1512.00567)."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vitkd_bench.contracts import Batch, Features, Method
from vitkd_bench.methods._labels import label_loss
from vitkd_bench.methods._logits import logits_of, other_logits
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings


def label_smoothing_loss(
    logits: Tensor, labels: Tensor, *, smoothing: float = 0.1, spread: Literal["all", "others"] = "all"
) -> Tensor:
    """Cross-entropy of logits (B, K) with smoothed `labels`, in nats, mean over the batch.

    `labels` are class indices (B,), for `all` also shares of the classes (B, K).

    `smoothing` e in [0, 1) is the share of the target that leaves the label: e / K goes to every class, the
    label's included (`all`, as in torch and timm), or e / (K - 1) to the others (`others`). The first equals
    (1 - e) cross-entropy + e `kd_loss` from a uniform teacher, up to e ln K. Source: arXiv:1512.00567,
    section 7.
    """
    if spread == "all" or logits.shape[1] == 1:
        return label_loss(logits, labels, smoothing)
    elsewhere = -other_logits(F.log_softmax(logits, dim=1), labels).mean()
    return (1 - smoothing) * label_loss(logits, labels) + smoothing * elsewhere


@METHODS.register(
    "label_smoothing",
    title="Label smoothing (no teacher)",
    kind="logit",
    paper="arXiv:1512.00567",
    reads_teacher=False,
    budget="smoothing: 6 trials of {.02, .05, .1, .2, .3, .5}",
)
class LabelSmoothing(Method):
    """Cross-entropy with labels, smoothed as this method says: the recipe's own smoothing does not act.

    The control for whatever a teacher's soft targets are said to bring. Under a recipe that smooths by the
    same share it is the baseline itself.
    """

    floors = {"labels": "open"}

    @classmethod
    def also_needs(cls, config: Config) -> tuple[str, ...]:
        return ("plain_labels",) if config.spread == "others" else ()

    class Config(Settings):
        smoothing: float = Field(
            default=0.1, ge=0, lt=1, description="share of the target that leaves the label"
        )
        spread: Literal["all", "others"] = Field(
            default="all", description="where it goes: to all K classes, or to the K - 1 others"
        )

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        smoothed = label_smoothing_loss(
            logits_of(student), batch.targets, smoothing=self.config.smoothing, spread=self.config.spread
        )
        return {"labels": smoothed}

    def notes(self) -> tuple[str, ...]:
        recipe = self.cell.recipe
        if recipe is None or not recipe.label_smoothing:
            return ()
        theirs = f"{recipe.label_smoothing:g} of recipe {recipe.name}"
        return (f"label smoothing {self.config.smoothing:g} of the method takes the place of {theirs}",)
