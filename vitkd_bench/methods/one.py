"""ONE: branches on a shared stem learn from their own gated ensemble (Lan et al., arXiv:1806.04606)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vitkd_bench.contracts import Batch, CellFacts, Features, Method, Network, taps
from vitkd_bench.methods._labels import label_loss, label_loss_of
from vitkd_bench.methods._logits import logits_of
from vitkd_bench.methods._precision import at_least_single
from vitkd_bench.methods._tokens import patches_after
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings

LIFT = 1e-7  # added to every probability of the target, which is not normalised again


def one_loss(student_logits: Tensor, ensemble_logits: Tensor, temperature: float = 3.0) -> Tensor:
    """Distillation from the ensemble: T^2 KL(ensemble || branch) of logits (B, K) softened by T, in nats.

    Summed over classes, mean over the batch. The ensemble is detached. Its probabilities are lifted by 1e-7
    and not normalised again, as in the public code, so that the value at equality is not zero but below
    1e-6 K T^2. Source: Lan et al.; Lan1991Xu/ONE_NeurIPS2018 `loss/kl_loss.py`.
    """
    branch, ensemble = at_least_single(student_logits), at_least_single(ensemble_logits.detach())
    log_branch = F.log_softmax(branch / temperature, dim=-1)
    target = F.softmax(ensemble / temperature, dim=-1) + LIFT
    return temperature**2 * (target * (target.log() - log_branch)).sum(dim=-1).mean()


def ramp(progress: float, length: float) -> float:
    """Weight of the distillation at `progress` of the training, both shares in [0, 1]: exp(-5 (1 - p / l)^2).

    It rises from exp(-5) to 1 at `length` and stays there; a length of 0 has no ramp. Source:
    Lan1991Xu/ONE_NeurIPS2018 `utils/ramps.py`, after Laine and Aila, arXiv:1610.02242.
    """
    return 1.0 if progress >= length else math.exp(-5 * (1 - progress / length) ** 2)


class Branch(nn.Module):
    """The last blocks, pooling and head of a student that has lost the rest."""

    def __init__(self, vit: Any, blocks: int) -> None:
        super().__init__()
        vit.blocks = vit.blocks[-blocks:]
        vit.patch_embed, vit.norm_pre = nn.Identity(), nn.Identity()
        vit.cls_token = vit.reg_token = vit.pos_embed = None
        self.vit = vit

    def forward(self, tokens: Tensor) -> Tensor:
        """Give logits (B, K) of the stem's tokens (B, N, D)."""
        logits: Tensor = self.vit.head(self.vit.pool(self.vit.encode(tokens)))
        return logits


@METHODS.register(
    "one",
    title="On-the-fly native ensemble",
    kind="online",
    paper="arXiv:1806.04606",
    reads_teacher=False,
    needs=("batch", "parameters"),
    budget="weight: 6 trials of {.1, .3, 1, 3, 10} and 0; ramp: {0, .25}",
)
class NativeEnsemble(Method, nn.Module):
    """Cross-entropy of every branch and of their ensemble + weight x ramp x sum of T^2 KL to each branch.

    No teacher. The student is the first branch; the others have the last blocks, norm and head of students of
    seeds of their own, and share the rest. The gate is a linear layer on the mean patch token of the shared
    stem, then batch norm, ReLU and softmax, as published; it weighs the branches' logits. The published stem
    of a ResNet is all but its last stage of three, hence a third of the blocks in a branch. The student alone
    is evaluated and kept.
    """

    class Config(Settings):
        branches: int = Field(default=3, ge=2, le=8, description="the student's own end one of them")
        share: float = Field(
            default=1 / 3,
            gt=0,
            lt=1,
            description="of the blocks that each branch has to itself, one at least",
        )
        temperature: float = Field(default=3.0, gt=0, description="of both sides of the distillation")
        weight: float = Field(
            default=1.0, ge=0, description="of the distillation after the ramp, against labels of weight 1"
        )
        ramp: float = Field(
            default=80 / 300, ge=0, le=1, description="share of the training over which that weight rises"
        )

    def __init__(self, config: Config, cell: CellFacts) -> None:
        """Make the gate; the branches come with `meet`."""
        super().__init__(config, cell)
        self.blocks = max(1, round(config.share * cell.student.size.depth))
        self.branches = nn.ModuleList()
        self.gate = nn.Sequential(
            nn.Linear(cell.student.size.width, config.branches),
            nn.BatchNorm1d(config.branches),
            nn.ReLU(),
            nn.Softmax(dim=-1),
        )

    @classmethod
    def refuses(cls, config: Config, cell: CellFacts) -> str | None:
        depth = cell.student.size.depth
        if max(1, round(config.share * depth)) < depth:
            return None
        return (
            f"one shares the first blocks among its branches: share {config.share:g} leaves none of {depth}"
        )

    def peers(self) -> int:
        return int(self.config.branches) - 1

    def meet(self, peers: Sequence[Network]) -> None:
        """Keep the ends of these students as further branches."""
        self.branches.extend(Branch(peer.module, self.blocks) for peer in peers)

    def student_taps(self) -> frozenset[str]:
        return frozenset({taps.tokens(self._stem)})

    @property
    def _stem(self) -> int:
        """The last block that is shared."""
        return self.cell.student.size.depth - self.blocks - 1

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        tokens = student.tokens[self._stem]
        logits = [logits_of(student), *(branch(tokens) for branch in self.branches)]
        weights = self.gate(patches_after(student, self._stem, self.cell.student).mean(dim=1))
        ensemble = (torch.stack(logits, dim=1) * weights[:, :, None]).sum(dim=1)
        others = [label_loss(each, batch.targets, batch.label_smoothing) for each in (*logits[1:], ensemble)]
        distilled = [one_loss(each, ensemble, self.config.temperature) for each in logits]
        weight = self.config.weight * ramp(batch.progress, self.config.ramp)
        return {
            "labels": label_loss_of(student, batch),
            "branches": torch.stack(others).sum(),
            "one": weight * torch.stack(distilled).sum(),
        }

    def notes(self) -> tuple[str, ...]:
        count = f"{len(self.branches)} further branches of {self.blocks} blocks"
        return (f"trained with {count} and their gate, which are not kept",)
