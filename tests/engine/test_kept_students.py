"""A finished student that was kept is evaluated on further splits; nothing is trained again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.conftest import PlanOf
from vitkd_bench.engine import PackOptions, run_pack
from vitkd_bench.records import Preparations, Store
from vitkd_bench.spec import Plan, Record

FEW = ("methods=[none, attn_copy, {name: attn_copy, control: shuffled_maps}, kd]", "teachers=[quick/deit]")
KEPT = (*FEW, "keep=student", "students=[standard]")


def run_all(plan: Plan, store: Store, preparations: Preparations) -> dict[str, Record]:
    """Run what is no preparation, and give the records."""
    for pack in plan.packs:
        if not pack.preparation:
            run_pack(plan, pack, store, preparations, PackOptions())
    return store.records()


@pytest.fixture(scope="module")
def plans(plan_of: PlanOf) -> tuple[Plan, Plan]:
    """The same runs evaluated on test, and on a shift split and a corruption as well."""
    return plan_of(*KEPT, "evaluate=[test]"), plan_of(
        *KEPT, "evaluate=[test, digits/rotate, digits/contrast@3]"
    )


def test_a_split_that_is_added_later_is_evaluated_alone(
    plans: tuple[Plan, Plan], preparations: Preparations, tmp_path: Path
) -> None:
    """Records are those of a run that knew the split from the start, and the training is the earlier one."""
    few, more = plans
    assert set(few.runs) == set(more.runs)
    store, whole = Store(tmp_path / "grown"), run_all(more, Store(tmp_path / "whole"), preparations)
    before = run_all(few, store, preparations)
    assert all("digits/rotate" not in record.metrics for record in before.values())
    grown = run_all(more, store, preparations)
    assert not store.damage
    assert {id_: record.result() for id_, record in grown.items()} == {
        id_: record.result() for id_, record in whole.items()
    }
    for id_, record in grown.items():
        assert "evaluated_again" in record.provenance, record.cell
        assert (record.cost, record.created) == (before[id_].cost, before[id_].created)
        assert store.predictions_path(id_).read_bytes() == (
            Store(tmp_path / "whole").predictions_path(id_).read_bytes()
        )
        assert store.serves(more, id_)


def test_weights_of_another_run_are_not_evaluated(
    plans: tuple[Plan, Plan], preparations: Preparations, tmp_path: Path
) -> None:
    """Kept weights that are not the record's are set aside and named, and the run is trained again."""
    few, more = plans
    store = Store(tmp_path)
    before = run_all(few, store, preparations)
    one, other = sorted(before)[:2]
    store.weights_path(one).write_bytes(store.weights_path(other).read_bytes())
    after = run_all(more, store, preparations)
    assert any(f"weights of run {one} are not those of its record" in line for line in store.damage)
    assert after[one].weights_sha256 == before[one].weights_sha256
    assert "evaluated_again" not in after[one].provenance
    assert "evaluated_again" in after[other].provenance
