"""What people call a run."""

from __future__ import annotations

from vitkd_bench.spec import Plan


def run_labels(plan: Plan) -> dict[str, str]:
    """Name every run of a plan: `teacher:student:method:dataset seed n`; a preparation by what it makes.

    The names are the suite's; a run that several cells share has the name of the first.
    """
    labels = {id_: f"preparation of {plan.prepares.get(id_, id_)}" for id_ in plan.preparations}
    for search in plan.searches:
        where = f"{search.teacher}:{search.student}:{search.method}:{search.dataset}"
        for value, runs in zip(search.values, search.runs, strict=True):
            for seed, id_ in runs.items():
                labels.setdefault(id_, f"trial of {where} {search.setting}={value} seed {seed}")
    for cell in plan.cells:
        for seed, id_ in cell.runs.items():
            labels.setdefault(id_, f"{cell.teacher}:{cell.student}:{cell.method}:{cell.dataset} seed {seed}")
    return {**{id_: id_ for id_ in plan.all_runs()}, **labels}
