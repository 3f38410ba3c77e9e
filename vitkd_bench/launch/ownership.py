"""One launcher for each output folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vitkd_bench.records import Store
from vitkd_bench.spec import WorldError

_LOCK = "launcher"
_LAUNCH = "launch"


@contextmanager
def launcher_of(store: Store, launch: str) -> Iterator[None]:
    """Be the one launcher of an output folder, under the name of the launch.

    Raises:
        WorldError: another process is; says which. Nothing was written.
    """
    lock = store.lock(_LOCK)
    lock.owner = {**lock.owner, _LAUNCH: launch}
    if not lock.try_acquire():
        holder = lock.holder() or {}
        who = (
            f"process {holder.get('pid', '?')} on {holder.get('host', '?')} since {holder.get('since', '?')}"
        )
        raise WorldError(
            f"{store.folder}: another launch holds this folder: {who}; wait for it, or end it first"
        )
    try:
        yield
    finally:
        lock.release()


def is_launcher(store: Store, launch: str) -> bool:
    """Whether the launch of this name still lives; what a worker asks to know that it is no orphan."""
    holder = store.lock(_LOCK).holder()
    # between taking the lock and writing its name a launcher is nobody: ask again later
    return holder is not None and holder.get(_LAUNCH, launch) == launch
