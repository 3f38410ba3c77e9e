"""A run whose method runs the teacher itself: a pack of its own, and the engine reads nothing for it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.conftest import QUICK, PlanOf
from vitkd_bench.engine import PackOptions, run_pack
from vitkd_bench.engine.pack import _Loop
from vitkd_bench.records import Preparations, Store
from vitkd_bench.spec import Plan, Record

SUITE = f"""suite: alone
version: 1
datasets: [digits]
extensions: [{QUICK}]
recipe: {{base: quick, drop_path: RATE}}
teachers: [quick/deit]
students: [standard]
methods:
  - attn_copy
  - attn_distill
  - {{name: attn_copy, as: copy_alone, lc_compat: true}}
  - {{name: attn_distill, as: distill_alone, lc_compat: true}}
seeds: [0]
"""


def trained(plan: Plan, store: Store, preparations: Preparations) -> dict[tuple[str, bool], Record]:
    """Run all packs that are no preparation, and give the records by method and by who reads."""
    for pack in plan.packs:
        if not pack.preparation:
            run_pack(plan, pack, store, preparations, PackOptions())
    return {
        (record.cell.method, bool(plan.runs[id_].method.settings)): record
        for id_, record in store.records().items()
    }


def test_such_a_run_has_a_pack_of_its_own(plan_of: PlanOf) -> None:
    """Two runs share a pack; each of the two that read alone has its own."""
    plan = plan_of(text=SUITE.replace("RATE", "0.0"))
    packs = sorted(
        sorted((plan.runs[id_].method.name, bool(plan.runs[id_].method.settings)) for id_ in pack.runs)
        for pack in plan.packs
        if not pack.preparation
    )
    shared = [kinds for kinds in packs if ("attn_copy", False) in kinds]
    assert [("attn_copy", True)] in packs
    assert [("attn_distill", True)] in packs
    assert ("attn_distill", False) in shared[0]


def test_without_drop_path_reading_alone_changes_no_number(
    plan_of: PlanOf, preparations: Preparations, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A student without drop path trains to the same metrics; the engine's own reading is never asked for."""
    asked: list[frozenset[str]] = []
    real = _Loop._read_teacher

    def noting(self: Any, batch: Any, taps: frozenset[str]) -> Any:
        asked.append(taps)
        return real(self, batch, taps)

    monkeypatch.setattr(_Loop, "_read_teacher", noting)
    plan = plan_of(text=SUITE.replace("RATE", "0.0"))
    for pack in plan.packs:
        if not pack.preparation and all(plan.runs[id_].method.settings for id_ in pack.runs):
            run_pack(plan, pack, store, preparations, PackOptions())
    assert set(asked) == {frozenset()}
    records = trained(plan, store, preparations)
    for method in ("attn_copy", "attn_distill"):
        alone, together = records[method, True], records[method, False]
        assert alone.status == together.status == "done"
        assert alone.metrics == together.metrics
        assert alone.curve == together.curve


def test_with_drop_path_the_teacher_is_noisy(
    plan_of: PlanOf, preparations: Preparations, store: Store
) -> None:
    """Under drop path the run that shares its masks trains otherwise than the one that does not."""
    records = trained(plan_of(text=SUITE.replace("RATE", "0.5")), store, preparations)
    for method in ("attn_copy", "attn_distill"):
        alone, together = records[method, True], records[method, False]
        assert alone.status == together.status == "done"
        assert alone.curve != together.curve
