"""Fine-tuning towards flat minima: sharpness-aware steps from the teacher's weights (arXiv:2010.01412)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from vitkd_bench.contracts import Batch, CellFacts, Features, Network
from vitkd_bench.methods._labels import label_loss_of
from vitkd_bench.methods.finetune import FineTuning
from vitkd_bench.registry import METHODS

Branch = Literal["mlp", "attention"]
End = Literal["last", "first"]

_LAST_LINEAR: Mapping[Branch, str] = {"mlp": r"mlp\.fc2\.\w+", "attention": r"attn\.proj\.\w+"}


def ascent(gradients: Mapping[str, Tensor], rho: float) -> dict[str, Tensor]:
    """Give the step of length `rho` up the gradient, rho g / ||g||, one norm over all tensors together.

    Zero where the gradient is. Source: Foret et al., equation 2 at p = 2.
    """
    norm = torch.stack([g.double().square().sum() for g in gradients.values()]).sum().sqrt()
    if norm == 0:
        return {name: torch.zeros_like(g) for name, g in gradients.items()}
    return {name: (g * (rho / norm)).to(g.dtype) for name, g in gradients.items()}


def scaled_blocks(depth: int, share: float, end: End) -> range:
    """Name the blocks of that share of the depth, one at least, at the network's last or first end."""
    count = max(1, round(share * depth))
    return range(depth - count, depth) if end == "last" else range(count)


@METHODS.register(
    "finetune_sam",
    title="Sharpness-aware fine-tuning",
    kind="weights",
    paper="arXiv:2010.01412",
    needs=("width", "depth", "heads", "grid"),
    version=2,  # 2: gamma is held while training
    budget="rho: {.02, .05, .1}; gamma: {.25, .5, .75, 1}",
)
class SharpnessAwareFineTuning(FineTuning):
    """`finetune`, each gradient of which is that at the worst point near: grad L(w + rho g / ||g||), g at w.

    A step takes two forward and two backward passes. Both see the same dropout and drop path, so that `rho`
    0, which takes one, is plain fine-tuning to the last bit. The norm is over all weights of the student. The
    worst point is that of the whole batch, so that the gradient of an image depends on the others: a recipe
    that computes a batch in parts is refused. The loss that is reported is the one at the perturbed weights.

    `gamma` scales the outputs of one branch, MLP or attention, of some blocks, throughout: the network that
    is trained is x + gamma MLP(norm(x)) there, and so is the one that is kept. Between steps the factor
    stands multiplied into the branch's last linear layer, so that the network stays one of its kind and needs
    nothing else to be read; within a step it is divided out, so that the optimiser and the step to the worst
    point near see the layer's own weights. `gamma` 1 is the identity.
    """

    class Config(FineTuning.Config):
        rho: float = Field(default=0.05, ge=0, description="length of the step to the worst point near")
        gamma: float = Field(default=1.0, gt=0, le=1, description="scale of the branch, held")
        branch: Branch = Field(default="mlp", description="branch whose outputs are scaled")
        share: float = Field(default=0.25, gt=0, le=1, description="of the blocks in which it is")
        end: End = Field(default="last", description="end of the network at which these blocks are")

    divided = False
    """Whether the factor is divided out at present: from a step's forward to the optimiser's move."""

    @classmethod
    def also_needs(cls, config: Config) -> tuple[str, ...]:
        return ("batch",) if config.rho > 0 else ()

    @classmethod
    def refuses(cls, config: Config, cell: CellFacts) -> str | None:
        swapped = [w for w in ("checkpointing", "compile") if cell.recipe and getattr(cell.recipe, w)]
        if (config.rho > 0 or config.gamma < 1) and swapped:
            return (
                f"finetune_sam runs the student at other weights within a step, which {swapped[0]} of recipe "
                f"{cell.recipe.name if cell.recipe else ''} does not see; set {swapped[0]}: false, or rho: 0 "
                "and gamma: 1"
            )
        return super().refuses(config, cell)

    @property
    def blocks(self) -> range:
        """The blocks whose branch is scaled."""
        return scaled_blocks(self.cell.student.size.depth, self.config.share, self.config.end)

    def of_scaled(self, name: str) -> bool:
        """Say whether a parameter is of the last linear layer of a branch that is scaled."""
        within = "|".join(map(str, self.blocks))
        layer = rf"(?:.*\.)?blocks\.(?:{within})\.{_LAST_LINEAR[self.config.branch]}"
        return re.fullmatch(layer, name) is not None

    def weights_of(self, student: Network, teacher: Network) -> dict[str, Tensor]:
        """Give the teacher's weights, the last layer of those branches scaled."""
        return self.held(super().weights_of(student, teacher))

    def held(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give the weights that the network computes with: those of scaled layers times gamma."""
        gamma = self.config.gamma
        return {n: t * gamma if gamma != 1 and self.of_scaled(n) else t for n, t in weights.items()}

    def step(self, student: Network, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        """Run the student, and if `rho` is not 0 run it again at the worst point near."""
        if self.config.rho == 0 and self.config.gamma == 1:
            return super().step(student, teacher, batch)
        if not isinstance(student, nn.Module):
            raise TypeError("finetune_sam changes the weights of a module")
        self._scale(student, divided=True)
        weights = {name: p for name, p in student.named_parameters() if p.requires_grad}
        if self.config.rho == 0:
            return self.loss(self._run(student, weights, batch), teacher, batch)
        devices = [batch.pixels.device] if batch.pixels.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):  # the second pass draws the same masks
            here = label_loss_of(self._run(student, weights, batch), batch)
            found = torch.autograd.grad(here, list(weights.values()), materialize_grads=True)
        student.clear()
        up = ascent(dict(zip(weights, found, strict=True)), self.config.rho)
        moved = {name: weight + up[name] for name, weight in weights.items()}
        return self.loss(self._run(student, moved, batch), teacher, batch)

    def _run(self, student: nn.Module, weights: Mapping[str, Tensor], batch: Batch) -> Features:
        """Run the student with these weights of its own, gamma applied."""
        found: Features = torch.func.functional_call(student, self.held(weights), (batch.pixels,))
        return found

    def after_step(self, student: Network, progress: float) -> None:
        """Multiply the factor in again."""
        self._scale(student, divided=False)

    @torch.no_grad()
    def _scale(self, student: Network, *, divided: bool) -> None:
        """Bring the scaled layers to their own weights, or to what the network computes with."""
        if self.config.gamma == 1 or self.divided == divided:
            return
        for name, parameter in student.module.named_parameters():
            if self.of_scaled(name):
                parameter.mul_(1 / self.config.gamma if divided else self.config.gamma)
        self.divided = divided

    def notes(self) -> tuple[str, ...]:
        if self.config.gamma == 1:
            return super().notes()
        blocks = ", ".join(map(str, self.blocks))
        said = f"the {self.config.branch} of blocks {blocks} is scaled by {self.config.gamma:g} throughout"
        return (*super().notes(), said)
