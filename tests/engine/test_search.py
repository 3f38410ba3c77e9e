"""Settings chosen on val, under one budget for all methods."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.conftest import QUICK
from vitkd_bench.api import finished_on_val, gather_inventory, load_suite, plan_suite
from vitkd_bench.launch import LaunchOptions, launch
from vitkd_bench.plan import plan_suite as pure_plan
from vitkd_bench.plan.suite_file import SuiteFile
from vitkd_bench.records import Preparations, Store
from vitkd_bench.spec import BadInputError, Plan, Search

SUITE = f"""suite: searched
version: 1
datasets: [digits]
extensions: [{QUICK}]
recipe: {{base: quick, epochs: 1}}
teachers: [quick/deit]
students: [standard, native_min]
methods:
  - none
  - {{name: attn_distill, weight: {{search: [0.3, 1, 3]}}, layers: {{search: [all, "first:2"]}}}}
  - {{name: kd, alpha: {{search: [0.5, 0.9]}}}}
seeds: [0, 1]
search: {{seeds: [100, 101], budget: 5}}
"""


@pytest.fixture
def suite(tmp_path: Path) -> SuiteFile:
    """The suite, read."""
    return written(tmp_path, SUITE)


def written(folder: Path, text: str) -> SuiteFile:
    """Write a suite and read it."""
    path = folder / "searched.yaml"
    path.write_text(text)
    return load_suite(str(path))


def planned(suite: SuiteFile, finished: dict[str, dict[str, float]]) -> Plan:
    """Plan with the given runs finished."""
    return pure_plan(suite, gather_inventory(suite, ()), (), finished)


def value_of(plan: Plan, run: str, setting: str, default: object) -> object:
    """Give the value that a run has for a setting."""
    return plan.runs[run].method.settings.get(setting, default)


def of_standard(plan: Plan) -> list[Search]:
    """The searches of the standard student."""
    return [search for search in plan.searches if search.student == "standard"]


def told(searches: list[Search]) -> list[tuple[str, int | None]]:
    """Each setting, and the place of its chosen value."""
    return [(search.setting, search.chosen) for search in searches]


def results(search: Search, top1: list[tuple[float, float]], nll: list[float]) -> dict[str, dict[str, float]]:
    """Metrics of a search's runs: accuracies of both seeds and a likelihood, a value."""
    return {
        search.runs[place][seed]: {"top1": score, "nll": nll[place]}
        for place, both in enumerate(top1)
        for seed, score in zip(("100", "101"), both, strict=True)
    }


def test_settings_are_chosen_one_after_the_other(suite: SuiteFile) -> None:
    """First the weight with all blocks, then the blocks at the chosen weight, then the cells themselves."""
    first = planned(suite, {})
    assert told(of_standard(first)) == [("weight", None), ("alpha", None)]
    assert first.waiting == 4
    assert {cell.method for cell in first.cells} == {"none"}
    assert {first.runs[id_].seed for id_ in first.trials} == {100, 101}
    assert all(first.splits_of(id_) == ("val",) for id_ in first.trials)
    # the second weight is the best in the mean of both seeds, though the first wins one of them
    done = results(of_standard(first)[0], [(0.9, 0.1), (0.6, 0.6), (0.5, 0.5)], [1.0, 1.0, 1.0])
    second = planned(suite, done)
    assert told(of_standard(second)) == [("weight", 1), ("layers", None), ("alpha", None)]
    blocks, alpha = of_standard(second)[1:]
    assert blocks.held == {"weight": 1}
    assert {value_of(second, id_, "weight", None) for runs in blocks.runs for id_ in runs.values()} == {1}
    # equal accuracy: the better likelihood decides; equal in both: the first
    done |= results(blocks, [(0.6, 0.6), (0.6, 0.6)], [1.0, 0.5])
    done |= results(alpha, [(0.5, 0.5), (0.5, 0.5)], [1.0, 1.0])
    last = planned(suite, done)
    assert last.waiting == 0
    assert told(of_standard(last)) == [("weight", 1), ("layers", 1), ("alpha", 0)]
    cell = next(c for c in last.cells if c.method == "attn_distill" and c.student == "standard")
    assert {last.runs[id_].seed for id_ in cell.runs.values()} == {0, 1}
    for id_ in cell.runs.values():
        assert last.runs[id_].method.settings == {"weight": 1.0, "layers": "first:2"}
    assert not set(cell.runs.values()) & last.trials


def test_a_native_student_that_is_the_standard_one_shares_its_trials(suite: SuiteFile) -> None:
    """Cells that come to the same runs search once."""
    plan = planned(suite, {})
    assert len(plan.trials) == (3 + 2) * 2


def test_a_launch_goes_on_until_everything_is_chosen(
    suite: SuiteFile, tmp_path: Path, preparations: Preparations
) -> None:
    """Trials first, then cells at the chosen values; the records of trials hold val alone."""
    out = tmp_path / "out"
    store = Store(out)
    rounds: list[Plan] = []
    while not rounds or rounds[-1].waiting:
        rounds.append(plan_suite(suite, out=out))
        outcome = launch(rounds[-1], store, preparations, LaunchOptions(executor="inline"))
        assert outcome.exit_code == 0
    assert [plan.waiting for plan in rounds] == [4, 2, 0]
    plan, found = rounds[-1], finished_on_val(out)
    for search in plan.searches:
        best = max(
            range(len(search.values)),
            key=lambda i: sum(found[id_]["top1"] for id_ in search.runs[i].values()),
        )
        assert search.chosen is not None
        top = [sum(found[id_]["top1"] for id_ in search.runs[i].values()) for i in (best, search.chosen)]
        assert top[0] == top[1]
    for id_ in plan.trials:
        record = store.read(id_)
        assert record is not None
        assert set(record.metrics) == {"val"}
    record = store.read(next(c for c in plan.cells if c.method == "kd").runs["0"])
    assert record is not None
    assert set(record.gradient_norms) == {"labels", "kd"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "[0.3, 1, 3]",
            "[0.3, 1, 3, 10]",
            r"attn_distill would take 6 trials; search.budget gives every method 5",
        ),
        ("[0.5, 0.9]", "[0.5]", r"methods.2.alpha: search: give a list of two values or more"),
        ("[0.5, 0.9]", "[0.5, 0.5]", r"methods.2.alpha: search: each value once"),
        ("[0.5, 0.9]", "[0.5, 1.9]", r"methods.2 \(kd\), search: alpha: .*less than or equal to 1"),
        ("seeds: [100, 101]", "seeds: [1]", r"search.seeds: 1 is a seed of the suite"),
        ("budget: 5", "budget: 0", r"search.budget: .*greater than 0"),
    ],
)
def test_a_bad_search_is_refused_by_field(tmp_path: Path, old: str, new: str, message: str) -> None:
    """When the suite is read or planned, before anything runs."""
    with pytest.raises(BadInputError, match=message):
        planned(written(tmp_path, SUITE.replace(old, new)), {})


def test_a_value_that_cannot_work_refuses_the_cell(tmp_path: Path) -> None:
    """Blocks beyond the student's depth are no trial."""
    plan = planned(written(tmp_path, SUITE.replace('"first:2"', '"first:9"')), {})
    refused = [r for r in plan.refusals if r.method == "attn_distill"]
    assert refused
    assert all("first:9 reach beyond the network's 4 blocks" in r.reason for r in refused)
