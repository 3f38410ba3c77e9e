"""The last epoch is reported; val's choice stands beside it, and a resumed run knows it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.engine.conftest import PlanOf
from vitkd_bench.engine import Interrupted, PackOptions, run_pack
from vitkd_bench.records import Preparations, Store
from vitkd_bench.spec import Plan, Record

UNSTEADY = (
    "recipe.lr=0.01",
    "recipe.min_lr=0.01",
    "recipe.epochs=5",
    "methods=[none]",
    "teachers=[quick/deit]",
    "seeds=[0, 1]",
)


def run_whole(plan: Plan, store: Store, preparations: Preparations, asked: Iterator[int]) -> list[Record]:
    """Run all packs, counting in `asked` how often one may be stopped; gives the records by run id."""
    for pack in plan.packs:
        options = PackOptions(should_stop=lambda: next(asked) < 0)
        run_pack(plan, pack, store, preparations, options)
    records = store.records()
    return [records[id_] for id_ in sorted(plan.runs)]


def stopping_at(time: int) -> PackOptions:
    """Options that stop a pack when it asks for the `time`-th time, with a checkpoint an epoch."""
    asked = count(1)
    return PackOptions(should_stop=lambda: next(asked) >= time, checkpoint_s=0.0)


@pytest.fixture(scope="module")
def unsteady(plan_of: PlanOf) -> Plan:
    """Two runs whose accuracy on val rises and falls."""
    return plan_of(*UNSTEADY)


def test_val_chooses_and_the_last_epoch_is_reported(
    unsteady: Plan, preparations: Preparations, tmp_path: Path
) -> None:
    """The first best epoch on val stands beside the numbers of the last one; a resumed run has the same."""
    asked = count()
    records = run_whole(unsteady, Store(tmp_path / "whole"), preparations, asked)
    for record in records:
        on_val = [entry["val_top1"] for entry in record.curve]
        chosen = record.metrics_val_selected
        assert record.metrics["val"]["top1"] == on_val[-1]
        assert (chosen["epoch"], chosen["val_top1"]) == (on_val.index(max(on_val)), max(on_val))
        is_last = chosen["epoch"] == len(on_val) - 1
        assert (chosen["test"]["nll"] == record.metrics["test"]["nll"]) is is_last
    earlier = [r for r in records if r.metrics_val_selected["epoch"] < len(r.curve) - 1]
    assert earlier, "no run has its best epoch before its last: the recipe's rate is too low for this test"

    resumed, times = Store(tmp_path / "resumed"), next(asked) // len(unsteady.packs)
    for pack in unsteady.packs:
        with pytest.raises(Interrupted):
            run_pack(unsteady, pack, resumed, preparations, stopping_at(times - 1))
    again = run_whole(unsteady, resumed, preparations, count())
    assert [record.result() for record in again] == [record.result() for record in records]
