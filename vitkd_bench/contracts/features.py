"""What passes between data, networks and methods in one step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from vitkd_bench.attention import AttentionCall

    Losses = dict[str, Tensor]
"""Named parts of a loss, scalars; the engine trains on their sum and logs each."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's images.

    `pixels` is (B, C, H, W) in [0, 1], not normalised: each network does that for itself. `views` holds
    further independently augmented views of the same images where the method asked for them
    (`Method.views` in all). `labels` (B,) are class indices, `ids` (B,) positions in the training split.
    `epoch` counts from 0, `progress` runs from 0 to 1 over the training, `train_size` is the number of
    training images, `label_smoothing` belongs to the recipe. `mixed` (B, K) are the shares of the classes in
    each image where the recipe mixes images, not smoothed; `labels` then are those of the images as they were
    before, and every view is mixed alike. `teacher_pixels` is what the teacher is shown where its side or
    filter is another than the student's: the same crops of the same images.
    """

    pixels: Tensor
    labels: Tensor
    ids: Tensor
    epoch: int = 0
    progress: float = 0.0
    train_size: int = 0
    label_smoothing: float = 0.0
    views: tuple[Tensor, ...] = ()
    mixed: Tensor | None = None
    teacher_pixels: Tensor | None = None

    def pin_memory(self) -> Batch:
        """Give the same batch in memory from which a device copies by itself; torch's loader calls this."""
        return replace(
            self,
            pixels=self.pixels.pin_memory(),
            labels=self.labels.pin_memory(),
            views=tuple(view.pin_memory() for view in self.views),
            mixed=None if self.mixed is None else self.mixed.pin_memory(),
            teacher_pixels=None if self.teacher_pixels is None else self.teacher_pixels.pin_memory(),
        )

    @property
    def for_teacher(self) -> Tensor:
        """The first view as the teacher is shown it."""
        return self.pixels if self.teacher_pixels is None else self.teacher_pixels

    @property
    def targets(self) -> Tensor:
        """What a loss on labels is taken against: class indices (B,), or their shares (B, K) where mixed."""
        return self.labels if self.mixed is None else self.mixed


@dataclass(frozen=True, slots=True)
class Features:
    """What a forward gave: `logits` (B, K) if there is a head, `pooled` (B, D) before it, and the taps."""

    logits: Tensor | None = None
    pooled: Tensor | None = None
    attention: Mapping[int, AttentionCall] = field(default_factory=dict)
    tokens: Mapping[int, Tensor] = field(default_factory=dict)
