"""The verdict on each family of teachers, beside the published one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from vitkd_bench.report.rows import Row, undecided
from vitkd_bench.statistics import Delta, Verdict, holm, t_interval, t_test, verdict

PUBLISHED = "arXiv:2605.07191"
"""Where the published outcomes come from; they hold for attention transfer to standard students."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyRow:
    """One family, student and method: its delta in percentage points, the seed being the unit.

    Teachers of a family are averaged within a seed. `p` is of the t test against zero, `p_holm` adjusted over
    the families of the same data set, recipe, student and method. `seen` names collections of these pictures
    that one of its teachers has seen.
    """

    dataset: str
    recipe: str
    family: str
    student: str
    method: str
    teachers: tuple[str, ...]
    delta: Delta
    p: float | None
    p_holm: float | None = None
    published: str | None = None
    seen: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """What the interval shows."""
        return verdict(self.delta.interval)

    @property
    def beside_published(self) -> str | None:
        """`same sign`, `other sign` or `undecided`; None where nothing is published of this case."""
        if self.published is None:
            return None
        if self.verdict == "undecided":
            return "undecided"
        return "same sign" if self.verdict == self.published else "other sign"

    @property
    def remark(self) -> str:
        """What a reader has to know, or nothing."""
        seen = [f"teacher has seen {', '.join(self.seen)}"] if self.seen else []
        open_ = [undecided(self.delta)] if self.verdict == "undecided" else []
        return "; ".join(seen + open_)


def family_rows(rows: Iterable[Row]) -> list[FamilyRow]:
    """Give one row a family; teachers with weights of one's own and controls count for no family."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if row.delta and not row.teacher.own_weights and not row.method.control_of:
            key = row.key
            group = (key.dataset, key.recipe, key.student, key.method, row.teacher.family)
            groups.setdefault(group, []).append(row)
    families = [found for group in sorted(groups) if (found := _family(groups[group]))]
    return _adjusted(families)


def _family(rows: list[Row]) -> FamilyRow | None:
    """Average the teachers of a family within each seed that all of them have; None if there is none."""
    deltas = [row.delta for row in rows if row.delta]
    shared = sorted(set.intersection(*(set(delta.by_seed) for delta in deltas)))
    if not shared:
        return None
    by_seed = {seed: math.fsum(delta.by_seed[seed] for delta in deltas) / len(deltas) for seed in shared}
    # each teacher's delta is rounded on its own, so rounding averages out over teachers
    step = 100 * math.sqrt(2 / len(rows)) / rows[0].images if rows[0].images else 0.0
    interval = t_interval(by_seed.values(), step=step)
    row = rows[0]
    attention_to_standard = row.method.kind == "attention" and row.key.student == "standard"
    return FamilyRow(
        dataset=row.key.dataset,
        recipe=row.key.recipe,
        family=row.teacher.family,
        student=row.key.student,
        method=row.key.method,
        teachers=tuple(sorted(r.key.teacher for r in rows)),
        delta=Delta(interval, by_seed, tuple(sorted({s for d in deltas for s in d.by_seed} - set(shared)))),
        p=t_test(interval),
        published=row.teacher.outcome if attention_to_standard else None,
        seen=tuple(sorted({name for r in rows for name in r.seen})),
    )


def _adjusted(families: list[FamilyRow]) -> list[FamilyRow]:
    """Adjust the p values over the families of one question."""
    questions: dict[tuple[str, ...], list[int]] = {}
    for i, row in enumerate(families):
        if row.p is not None:
            questions.setdefault((row.dataset, row.recipe, row.student, row.method), []).append(i)
    adjusted = list(families)
    for indices in questions.values():
        values = holm([families[i].p or 0.0 for i in indices])
        for i, p in zip(indices, values, strict=True):
            adjusted[i] = replace(families[i], p_holm=p)
    return adjusted
