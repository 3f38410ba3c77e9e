"""In which order packs are taken: what unblocks most first, then the longest."""

from __future__ import annotations

from collections.abc import Mapping

from vitkd_bench.spec import Pack, Plan, Run


def run_cost(run: Run) -> float:
    """Estimate the work of a run in no particular unit: epochs times the multiplications of one image."""
    size, tokens = run.student.size, run.student.tokens
    per_block = (4 + 2 * size.mlp_ratio) * tokens * size.width**2 + 2 * tokens**2 * size.width
    return run.recipe.epochs * size.depth * per_block


def pack_cost(pack: Pack, runs: Mapping[str, Run]) -> float:
    """Estimate the work of a pack, in the unit of `run_cost`."""
    return sum(run_cost(runs[run]) for run in pack.runs)


def ordered(plan: Plan) -> tuple[Pack, ...]:
    """Sort the packs of a plan: preparations by the work that waits for them, then runs, the longest first.

    The longest first, so that no worker starts a long pack when the others are about to end.
    """
    runs = plan.all_runs()
    costs = {pack.id: pack_cost(pack, runs) for pack in plan.packs}
    waiting = {pack.id: _waiting_for(pack, plan.packs, costs) for pack in plan.packs}
    return tuple(
        sorted(
            plan.packs, key=lambda pack: (not pack.preparation, -waiting[pack.id] - costs[pack.id], pack.id)
        )
    )


def _waiting_for(pack: Pack, packs: tuple[Pack, ...], costs: Mapping[str, float]) -> float:
    """Add up the work of all packs that need this one, directly or not."""
    made, waiting = set(pack.runs), dict[str, float]()
    if not pack.preparation:
        return 0.0
    grown = True
    while grown:
        grown = False
        for other in packs:
            if other.id not in waiting and made.intersection(other.needs):
                waiting[other.id] = costs[other.id]
                made.update(other.runs if other.preparation else ())
                grown = True
    return sum(waiting.values())
