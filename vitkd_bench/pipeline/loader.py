"""Batches made ahead by other processes, brought to the device as bytes and made numbers there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vitkd_bench.contracts import Batch
from vitkd_bench.spec import VitkdError

AHEAD = 3
"""Batches that each process makes ahead."""


@dataclass(frozen=True, slots=True)
class Loading:
    """Who makes batches: `workers` processes, or this one if there are none; `pinned` for an accelerator."""

    workers: int = 0
    pinned: bool = False


IN_PROCESS = Loading()


def load(make: Callable[[int], Batch], count: int, loading: Loading = IN_PROCESS) -> Iterator[Batch]:
    """Give `make(0)` to `make(count - 1)` in order, made by whoever `loading` says.

    What a batch holds depends on its number alone, so it is the same whoever makes it.

    Raises:
        WorldError: an image cannot be decoded; names it.
    """
    if not loading.workers or count < 2:
        yield from map(make, range(count))
        return
    made = DataLoader(
        _Steps(make, count),
        batch_size=None,
        shuffle=False,
        num_workers=min(loading.workers, count),
        prefetch_factor=AHEAD,
        pin_memory=loading.pinned,
        worker_init_fn=_one_thread,
    )
    for batch in made:
        if isinstance(batch, VitkdError):
            raise batch
        yield batch


def ready(batch: Batch, device: torch.device | str = "cpu") -> Batch:
    """Bring a batch to a device, its pixels as float32 in [0, 1]; bytes are divided there."""

    def moved(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True)

    return replace(
        batch,
        pixels=as_float(moved(batch.pixels)),
        labels=moved(batch.labels),
        views=tuple(as_float(moved(view)) for view in batch.views),
        mixed=None if batch.mixed is None else moved(batch.mixed),
        teacher_pixels=None if batch.teacher_pixels is None else as_float(moved(batch.teacher_pixels)),
    )


def as_float(pixels: Tensor) -> Tensor:
    """Give pixels as float32 in [0, 1]; what is uint8 is divided by 255."""
    return pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels


class _Steps(Dataset[Batch | VitkdError]):
    """The steps of a pass, as torch's loader asks for them.

    An error of ours is handed over, not raised: the loader would put the worker's traceback into it.
    """

    def __init__(self, make: Callable[[int], Batch], count: int) -> None:
        self.make, self.count = make, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, step: int) -> Batch | VitkdError:
        try:
            return self.make(step)
        except VitkdError as error:
            return error


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
