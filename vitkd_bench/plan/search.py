"""Settings chosen on val: the same budget of trials for every method, one setting after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vitkd_bench.plan.variants import Variant
from vitkd_bench.spec import Run, Search

Finished = Mapping[str, Mapping[str, float]]
"""Metrics on val by run id, of the runs that are finished."""


@dataclass(slots=True)
class Searching:
    """The searches of a plan.

    A cell's settings are tried in the order in which the suite writes them, each with those before it at the
    value that was chosen and those after it at their default. The best value has the highest top-1 accuracy
    on val, mean over the seeds of the search; of equal ones the lowest negative log-likelihood, then the
    first.
    """

    seeds: Sequence[int]
    finished: Finished
    runs: dict[str, Run] = field(default_factory=dict)
    done: list[Search] = field(default_factory=list)

    def chosen(
        self, names: Mapping[str, str], method: Variant, run_of: Callable[[Variant, int], Run]
    ) -> Variant | None:
        """Give the method of a cell with its chosen settings; None where trials are still to be run."""
        held: dict[str, Any] = {}
        for setting, values in method.search.items():
            tried = [with_settings(method, {**held, setting: value}) for value in values]
            best = self._tried(names, setting, values, held, tried, run_of)
            if best is None:
                return None
            held = {**held, setting: values[best]}
        return replace(with_settings(method, held), search={})

    def _tried(
        self,
        names: Mapping[str, str],
        setting: str,
        values: tuple[Any, ...],
        held: dict[str, Any],
        tried: Sequence[Variant],
        run_of: Callable[[Variant, int], Run],
    ) -> int | None:
        runs = [{seed: run_of(variant, seed) for seed in self.seeds} for variant in tried]
        self.runs |= {run.id: run for by_seed in runs for run in by_seed.values()}
        ids = [{str(seed): run.id for seed, run in by_seed.items()} for by_seed in runs]
        scores = [self._score(list(by_seed.values())) for by_seed in ids]
        known = [score for score in scores if score is not None]
        chosen = scores.index(max(known)) if len(known) == len(scores) else None
        self.done.append(
            Search(**names, setting=setting, values=values, runs=tuple(ids), held=held, chosen=chosen)
        )
        return chosen

    def _score(self, ids: Sequence[str]) -> tuple[float, float] | None:
        if not all(id_ in self.finished for id_ in ids):
            return None
        found = [self.finished[id_] for id_ in ids]
        return sum(m["top1"] for m in found) / len(found), -sum(m["nll"] for m in found) / len(found)


def with_settings(method: Variant, settings: Mapping[str, Any]) -> Variant:
    """Give a method with some settings changed, checked as the suite's own are."""
    kind = type(method.config)
    where = f"{method.label}, search"
    return replace(method, config=kind.parse({**method.config.declared(), **settings}, where))


def trials_of(method: Variant) -> Iterator[Variant]:
    """Give a method as it stands, then with each value of its search alone."""
    yield method
    for setting, values in method.search.items():
        for value in values:
            yield with_settings(method, {setting: value})
