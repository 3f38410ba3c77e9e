"""The parts of a batch that are computed one after the other where a recipe accumulates gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from vitkd_bench.contracts import Batch


@dataclass(frozen=True, slots=True)
class Part:
    """Some samples of a batch: their `share` of it, and whether they are its first and its last ones."""

    batch: Batch
    share: float = 1.0
    first: bool = True
    last: bool = True


def parts_of(batch: Batch, count: int) -> Iterator[Part]:
    """Cut a batch into `count` parts, as equal as can be; a batch of fewer samples into single ones."""
    if count == 1:
        yield Part(batch)
        return
    total = len(batch.ids)
    count = min(count, total)
    bounds = [total * i // count for i in range(count + 1)]
    for i, (start, end) in enumerate(pairwise(bounds)):
        cut = replace(
            batch,
            pixels=batch.pixels[start:end],
            labels=batch.labels[start:end],
            ids=batch.ids[start:end],
            views=tuple(view[start:end] for view in batch.views),
            mixed=None if batch.mixed is None else batch.mixed[start:end],
            teacher_pixels=None if batch.teacher_pixels is None else batch.teacher_pixels[start:end],
        )
        yield Part(cut, (end - start) / total, first=i == 0, last=i == count - 1)
