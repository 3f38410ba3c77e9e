"""How images come to a pack's networks: on which device, made by whom, and how the teacher is shown them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from vitkd_bench.contracts import Batch, Examples, Look
from vitkd_bench.engine.options import PackOptions
from vitkd_bench.engine.teacher import ReadTeacher
from vitkd_bench.pipeline import IN_PROCESS, Loading, raw_batches, ready

EVALUATED = 256
"""Images in one evaluation batch; fixed, since it decides the last bits."""


@dataclass(frozen=True, slots=True)
class Showing:
    """`teacher` is how the teacher is shown images, None where it is as the student is."""

    device: torch.device
    teacher: Look | None = None
    loading: Loading = IN_PROCESS

    @classmethod
    def of(cls, options: PackOptions, side: int, read: ReadTeacher | None = None) -> Showing:
        """Say it for a student that is shown images of `side` pixels, bicubic, and for what is read."""
        device = torch.device(options.device)
        look = Look(read.architecture.image_size, read.contract.interpolation) if read else None
        return cls(
            device,
            None if look is None or look == Look(side) else look,
            Loading(options.data_workers, pinned=device.type == "cuda"),
        )

    @property
    def others(self) -> tuple[Look, ...]:
        """Looks beside the student's."""
        return (self.teacher,) if self.teacher else ()

    def evaluated(self, examples: Examples, *, teacher: bool = False) -> Iterator[Batch]:
        """Give a split in batches on the device; with `teacher` also as the teacher is shown it."""
        look = self.teacher if teacher else None
        return self._ready(raw_batches(examples, EVALUATED, 0, look, self.loading))

    def plain(self, examples: Examples, batch_size: int) -> Iterator[Batch]:
        """Give the training images once, not augmented, in batches on the device, for both networks."""
        return self._ready(raw_batches(examples, batch_size, len(examples), self.teacher, self.loading))

    def _ready(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        return (ready(batch, self.device) for batch in batches)
