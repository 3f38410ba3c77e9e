"""ReMem, our reading: distil from a teacher fine-tuned to say more of its input (after arXiv:2506.23041)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vitkd_bench.contracts import Batch, CellFacts, Features, Method, Network, TeacherRun, taps
from vitkd_bench.methods._labels import label_loss_of
from vitkd_bench.methods._logits import logits_of, teacher_logits
from vitkd_bench.methods.finetune_sam import Branch, End
from vitkd_bench.methods.kd import kd_loss
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings

MOST_IMAGES = 1024
"""Images over which the mutual information is bounded, in batches as `fit` gets them."""
CRITIC_TEMPERATURES = 0.02, 0.05, 0.1, 0.2, 0.5, 1.0
MIDDLE = 0.75  # of a side


def mutual_information_bound(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Bound the mutual information of two views from below, in nats: log B less a contrastive loss.

    `first` and `second` are (B, D) of unit length, row by row of one image each; the critic is their inner
    product over `temperature`. Each row of `first` has to find its own among those of `second`. Never above
    log B, its ceiling; may be below 0. What two views of an image have in common bounds what either tells of
    it. Source: van den Oord et al., arXiv:1807.03748, section 2.3; that it stands for I(X; F_T) is ours.
    """
    found = F.cross_entropy(first @ second.T / temperature, torch.arange(len(first), device=first.device))
    return math.log(len(first)) - found


def remem_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Distillation term, T^2 KL(teacher || student) of logits (B, K), in nats: that of `kd`.

    Summed over classes, mean over the batch. What is ReMem's is the teacher, not the loss.
    """
    return kd_loss(student_logits, teacher_logits, temperature)


@METHODS.register(
    "remem",
    title="ReMem (our reading: SAM and re-weighted MLPs)",
    kind="teacher",
    paper="after arXiv:2506.23041, our own reading",
    budget="gamma: {.25, .5, .75, 1}; share: {.25, .5}; rho: {.02, .05, .1}; alpha and temperature as kd",
)
class FineTunedTeacher(Method):
    """`kd` from the cell's teacher after it was fine-tuned on the cell's data, by our reading of ReMem.

    Of the paper only abstract and introduction were at hand: they blame a low mutual information between the
    input and what a strong teacher says of it, most of it lost in the upper MLP blocks. That the remedy is
    sharpness-aware fine-tuning with re-weighted MLP blocks is told by others; factor, blocks and radius are
    ours, and so numbers of this method are none of the paper's. The teacher is a run of `finetune_sam`
    under the cell's recipe and seed, with a record of its own, where its accuracy stands; a teacher without a
    head gets one by it. `gamma` is held while it is fine-tuned and while it teaches. The record of the
    student says how soft the teacher is, and a bound from below on what its logits tell of the image
    (`mutual_information_bound`), each over training images without augmentation.

    Both flat minima and smaller MLPs soften what the teacher says. The controls are settings: the same
    teacher fine-tuned plainly, under temperatures (`rho: 0, gamma: 1`, `temperature: {1, 2, 4}`); a plainly
    fine-tuned one stopped where it is as accurate (`teacher_epochs`, by the top-1 in the records of the
    teachers); attention in the place of the MLP (`branch: attention`), the first blocks in the place of the
    last (`end: first`).
    """

    class Config(Settings):
        alpha: float = Field(
            default=0.5, ge=0, le=1, description="share of the distillation term; the labels keep 1 - alpha"
        )
        temperature: float = Field(default=1.0, gt=0, description="divides both logits before the softmax")
        rho: float = Field(default=0.05, ge=0, description="radius of the teacher's sharpness-aware steps")
        gamma: float = Field(default=0.5, gt=0, le=1, description="scale of the branch that is re-weighted")
        branch: Branch = Field(default="mlp", description="branch that is re-weighted")
        share: float = Field(default=0.25, gt=0, le=1, description="of the teacher's blocks in which it is")
        end: End = Field(default="last", description="end of the teacher at which these blocks are")
        teacher_epochs: int | None = Field(
            default=None, ge=1, description="of its fine-tuning; none: as many as the recipe has"
        )

    entropy: float | None = None
    information: tuple[float, int] | None = None
    """Bound in nats, and the images of a batch, whose logarithm is its ceiling."""

    @classmethod
    def refuses(cls, config: Config, cell: CellFacts) -> str | None:
        return None if cell.teacher_architecture else "remem needs a teacher"

    @classmethod
    def teacher_run(cls, config: Config, cell: CellFacts) -> TeacherRun | None:
        if cell.teacher_architecture is None:
            return None
        names = ("rho", "gamma", "branch", "share", "end")
        settings = {name: getattr(config, name) for name in names}
        return TeacherRun(
            "finetune_sam",
            settings,
            student=cell.teacher_architecture,
            reads="cell",
            epochs=config.teacher_epochs,
        )

    def teacher_taps(self) -> frozenset[str]:
        return frozenset({taps.LOGITS})

    def fit(self, student: Network, teacher: Network | None, batches: Iterable[Batch]) -> None:
        """Measure on the training images how soft the teacher is, and what it tells of them."""
        if teacher is None:
            raise TypeError("remem reads a fine-tuned teacher, and none was given")
        entropies: list[Tensor] = []
        bounds: list[Tensor] = []
        size = 0
        for batch in batches:
            logits = self._logits(teacher, batch.pixels)
            entropies.append(torch.special.entr(logits.softmax(dim=-1)).sum(dim=-1))
            size = size or len(logits)
            if 1 < len(logits) == size and len(bounds) * size < MOST_IMAGES:
                bounds.append(_bounds(logits, self._logits(teacher, middle(batch.pixels))))
        self.entropy = torch.cat(entropies).mean().item()
        if bounds:  # the best critic of those tried: each gives a bound
            self.information = torch.stack(bounds).mean(dim=0).max().item(), size

    @torch.no_grad()
    def _logits(self, teacher: Network, pixels: Tensor) -> Tensor:
        logits = teacher_logits(teacher(pixels, self.teacher_taps()), self.cell).double()
        teacher.clear()
        return logits

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        target = teacher_logits(teacher, self.cell)
        distilled = remem_loss(logits_of(student), target, self.config.temperature)
        labels = label_loss_of(student, batch)
        return {"labels": (1 - self.config.alpha) * labels, "remem": self.config.alpha * distilled}

    def notes(self) -> tuple[str, ...]:
        found = []
        if self.entropy is not None:
            found.append(
                f"the teacher's entropy on training images without augmentation: {self.entropy:.4f} nats"
            )
        if self.information is not None:
            bound, size = self.information
            found.append(
                "what its logits tell of an image and of its middle alike (InfoNCE, a bound from below): "
                f"{bound:.4f} of at most {math.log(size):.4f} nats, in batches of {size}"
            )
        return tuple(found)


def middle(pixels: Tensor) -> Tensor:
    """Show the middle of images (B, C, H, W), three quarters a side, at their own size: a second view."""
    height, width = pixels.shape[-2:]
    inner = [max(1, round(MIDDLE * side)) for side in (height, width)]
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    cut = pixels[..., top : top + inner[0], left : left + inner[1]]
    return F.interpolate(cut, (height, width), mode="bilinear", antialias=False, align_corners=False)


def _bounds(first: Tensor, second: Tensor) -> Tensor:
    """Bound the information under each temperature of the critic, logits centred and of unit length."""
    one, other = (F.normalize(view - view.mean(dim=-1, keepdim=True), dim=-1) for view in (first, second))
    return torch.stack([mutual_information_bound(one, other, t) for t in CRITIC_TEMPERATURES])
