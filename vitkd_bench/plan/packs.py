"""Packs: runs that share data stream and teacher forward, trained in lock-step by one worker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vitkd_bench.registry import CONTROLS, METHODS
from vitkd_bench.spec import Pack, Run, content_hash

MOST_RUNS = 8
"""Runs in one pack at most: larger packs save teacher forwards and lose balance between workers."""


def make_packs(preparations: Mapping[str, Run], runs: Mapping[str, Run]) -> tuple[Pack, ...]:
    """Group runs; preparations come first, one to a pack, each after those that it needs.

    A run that others need is trained once, as a preparation, also where it is a cell's own.
    """
    first = [_pack([run], preparation=True) for run in preparations.values()]
    groups: dict[tuple[str, str, tuple[int, int], str], list[Run]] = {}
    for run in (run for id_, run in runs.items() if id_ not in preparations):
        pin = f"{run.teacher.pin} {run.teacher.head_pin}" if run.teacher else ""
        groups.setdefault((run.stream_key, pin, views_of(run), _alone(run)), []).append(run)
    return (*first, *(_pack(part) for group in groups.values() for part in _parts(group)))


def views_of(run: Run) -> tuple[int, int]:
    """Count the augmented views of each image that a run needs, and say which its teacher sees, from 0."""
    of_method = METHODS.get(run.method.name).method.views
    control = run.method.control
    of_control = CONTROLS.get(control.name).control.views if control else 1
    return max(of_method, of_control), of_control - 1


def _alone(run: Run) -> str:
    """Give the run's id if its method runs the teacher itself, so that it shares a pack with no other."""
    method = METHODS.get(run.method.name).method
    return run.id if method.reads_alone(method.Config.parse(run.method.settings)) else ""


def _parts(group: list[Run]) -> Iterable[list[Run]]:
    count = -(-len(group) // MOST_RUNS)
    return (group[i::count] for i in range(count))


def _pack(runs: list[Run], *, preparation: bool = False) -> Pack:
    ids = tuple(run.id for run in runs)
    needs = {made for run in runs if run.teacher for made in run.teacher.preparations}
    return Pack(
        id=content_hash(list(ids)),
        runs=ids,
        needs=tuple(sorted(needs)),
        preparation=preparation,
    )
