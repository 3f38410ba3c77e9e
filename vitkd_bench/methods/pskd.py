"""Progressive self-distillation: one's own last epoch as teacher, PS-KD (Kim et al., arXiv:2006.12000)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vitkd_bench.contracts import Batch, CellFacts, Features, Method
from vitkd_bench.methods._labels import label_loss_of
from vitkd_bench.methods._logits import logits_of
from vitkd_bench.methods._precision import at_least_single
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings


def pskd_loss(student_logits: Tensor, previous: Tensor) -> Tensor:
    """Cross-entropy of logits (B, K) with earlier probabilities (B, K), in nats, mean over the batch.

    `previous` is detached. With share a of it the published target is (1 - a) one-hot + a `previous`, whose
    loss is (1 - a) cross-entropy with labels + a times this. Source: arXiv:2006.12000;
    lgcnsai/PS-KD-Pytorch `loss/pskd_loss.py`.
    """
    return -(previous.detach() * F.log_softmax(student_logits, dim=-1)).sum(dim=-1).mean()


@METHODS.register(
    "pskd",
    title="Progressive self-distillation (PS-KD)",
    kind="logit",
    paper="arXiv:2006.12000",
    reads_teacher=False,
    needs=("memory", "plain_labels", "one_view"),
    budget="alpha: 6 trials of {.3, .5, .6, .7, .8, .9}; schedule: {linear, constant}",
)
class ProgressiveSelfDistillation(Method, nn.Module):
    """(1 - a) cross-entropy with labels + a cross-entropy with the student's own output of the last epoch.

    a is alpha x (epoch + 1) / epochs (`linear`, as published) or alpha (`constant`). The output kept is that
    of the forward that trained, on that epoch's view of the image and with whatever drop path: no second pass
    and no average. It costs images x classes numbers of four bytes: 5.1 GB for ImageNet. An image not seen
    before, all of them in the first epoch, has its label as last output. An image seen again within an epoch
    meets that same epoch's output. The recipe's label smoothing acts on the label part. Mixed images would
    need an output for every pair, so the method has no form for them.
    """

    previous: Tensor

    floors = {"pskd": "open"}

    class Config(Settings):
        alpha: float = Field(
            default=0.8, ge=0, le=1, description="share of the last epoch's output, at the end if linear"
        )
        schedule: Literal["linear", "constant"] = Field(
            default="linear", description="how that share runs over the epochs"
        )

    def __init__(self, config: Config, cell: CellFacts) -> None:
        """Make room for one output an image: (training images, classes), 0 where none was seen."""
        super().__init__(config, cell)
        self.register_buffer("previous", torch.zeros(cell.train_size, len(cell.dataset.classes)))

    def share(self, epoch: int) -> float:
        """Give the weight of the last output in one epoch, counted from 0."""
        if self.config.schedule == "constant":
            return float(self.config.alpha)
        if self.cell.recipe is None:
            raise TypeError("the linear schedule of pskd counts the recipe's epochs, and there is no recipe")
        return float(self.config.alpha * (epoch + 1) / self.cell.recipe.epochs)

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        logits, share = logits_of(student), self.share(batch.epoch)
        distilled = pskd_loss(logits, self._remembered(batch))
        self._remember(batch, logits)
        return {"labels": (1 - share) * label_loss_of(student, batch), "pskd": share * distilled}

    def _remembered(self, batch: Batch) -> Tensor:
        last = self.previous[batch.ids.to(self.previous.device)]
        own = F.one_hot(batch.labels, last.shape[1]).to(last.dtype)
        return torch.where(last.sum(dim=1, keepdim=True) > 0, last, own)

    def _remember(self, batch: Batch, logits: Tensor) -> None:
        now = F.softmax(at_least_single(logits.detach()), dim=1)
        self.previous[batch.ids.to(self.previous.device)] = now.to(self.previous.dtype)
