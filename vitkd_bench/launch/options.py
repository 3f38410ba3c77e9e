"""How a launch is carried out; none of it can change a number on CPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field

from vitkd_bench.launch.training import ENGINE
from vitkd_bench.spec import BadInputError, Frozen

MOST_LOADERS = 16
"""More processes than this seldom feed a GPU faster."""


class LaunchOptions(Frozen):
    """Executor, number of worker processes, device, and where data is looked for.

    `jobs` of None takes one worker for each core (each GPU, on such a device). `threads` is what one worker
    computes with; a different number changes weights by about 1e-5. `data_workers` are the processes that
    make batches for one worker: by default its share of the cores on a GPU, none on a CPU, where they would
    take the cores of the training. `engine` is the import path of
    what trains packs.
    """

    executor: Literal["inline", "local"] = "local"
    jobs: int | None = Field(default=None, gt=0)
    device: str = "cpu"
    roots: tuple[Path, ...] = ()
    threads: int = Field(default=1, gt=0)
    data_workers: int | None = Field(default=None, ge=0)
    engine: str = ENGINE

    def workers(self, packs: int) -> int:
        """Count the worker processes for so many packs: never more than there are packs."""
        wanted = self.jobs or (len(self.gpus()) if self.on_gpu else max(1, cores() // self.threads))
        return max(1, min(wanted, packs))

    def loaders(self) -> int:
        """Count the processes that make batches for one worker."""
        if self.data_workers is not None:
            return self.data_workers
        return min(MOST_LOADERS, cores() // max(1, len(self.gpus()))) if self.on_gpu else 0

    @property
    def on_gpu(self) -> bool:
        """Whether packs are trained on CUDA devices."""
        return self.device.partition(":")[0] == "cuda"

    def gpus(self) -> tuple[int, ...]:
        """The CUDA devices that workers are spread over, by the numbers that CUDA_VISIBLE_DEVICES takes.

        Raises:
            BadInputError: the device names a GPU that is not there.
        """
        if not self.on_gpu:
            return ()
        visible = _visible_gpus()
        _, colon, index = self.device.partition(":")
        if not colon:
            chosen = visible
        elif index.isdigit() and int(index) < len(visible):
            chosen = (visible[int(index)],)
        else:
            chosen = ()
        if not chosen:
            raise BadInputError(f"--device {self.device}: no such device; {len(visible)} CUDA device(s) seen")
        return chosen


def resolve_device(asked: str) -> str:
    """Check a device and turn `auto` into `cuda` where there is a GPU, else `cpu`.

    Raises:
        BadInputError: neither `auto`, `cpu`, `cuda` nor `cuda:<n>`, or that GPU is not there.
    """
    kind, _, index = asked.partition(":")
    if asked == "auto":
        return "cuda" if _visible_gpus() else "cpu"
    if asked != "cpu" and not (kind == "cuda" and (asked == "cuda" or index.isdigit())):
        raise BadInputError(f"--device {asked}: unknown device; known: auto, cpu, cuda, cuda:<n>")
    LaunchOptions(device=asked).gpus()
    return asked


def cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _visible_gpus() -> tuple[int, ...]:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    # submitit takes integers only, so devices named by UUID are counted from 0
    if count and len(named) >= count and all(name.isdigit() for name in named[:count]):
        return tuple(int(name) for name in named[:count])
    return tuple(range(count))
