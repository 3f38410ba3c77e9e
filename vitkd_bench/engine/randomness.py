"""Random streams: each run draws from its own, whatever else runs in the process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from vitkd_bench.spec import seeded


@dataclass(slots=True)
class GlobalState:
    """torch's global generators as one run left them; swapped in around its steps.

    Dropout, drop path and the masks of methods draw from them, on the CPU and on the run's device.
    """

    cpu: Tensor
    cuda: Tensor | None = None

    @classmethod
    def fresh(cls, seed: int, device: torch.device) -> GlobalState:
        """Start the stream `network` of a run."""
        with _kept(device):
            torch.manual_seed(seeded(seed, "network") % 2**63)
            return cls._read(device)

    @classmethod
    def _read(cls, device: torch.device) -> GlobalState:
        return cls(torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None)

    def _write(self, device: torch.device) -> None:
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda, device)

    @contextmanager
    def swapped_in(self, device: torch.device) -> Iterator[None]:
        """Draw from this state inside the block, and keep where it got to."""
        with _kept(device):
            self._write(device)
            try:
                yield
            finally:
                now = self._read(device)
                self.cpu, self.cuda = now.cpu, now.cuda


@contextmanager
def _kept(device: torch.device) -> Iterator[None]:
    outside = GlobalState._read(device)  # noqa: SLF001  (same module)
    try:
        yield
    finally:
        outside._write(device)  # noqa: SLF001
