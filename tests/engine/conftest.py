"""A small plan whose teachers take seconds, and a way to run its packs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vitkd_bench.api import load_suite, plan_suite
from vitkd_bench.engine import PackOptions, run_pack
from vitkd_bench.records import Preparations, Store
from vitkd_bench.spec import Plan

QUICK = Path(__file__).parents[1] / "fixtures" / "quick.py"
SUITE = f"""suite: quick
version: 1
datasets: [digits]
extensions: [{QUICK}]
recipe: quick
teachers: [quick/deit, quick/dinov2]
students: [standard, native]
methods: [none, attn_copy, attn_distill, kd]
seeds: [0]
"""
PlanOf = Callable[..., Plan]


@pytest.fixture(scope="session")
def plan_of(tmp_path_factory: pytest.TempPathFactory) -> PlanOf:
    """Plan the quick suite with overrides."""

    def plan(*overrides: str, text: str = SUITE, only: tuple[str, ...] = ()) -> Plan:
        path = tmp_path_factory.mktemp("suite") / "quick.yaml"
        path.write_text(text)
        return plan_suite(load_suite(str(path), overrides), only=only)

    return plan


@pytest.fixture(scope="session")
def preparations(tmp_path_factory: pytest.TempPathFactory, plan_of: PlanOf) -> Preparations:
    """The quick teachers, made once for all tests of the engine."""
    made = Preparations(tmp_path_factory.mktemp("cache"))
    plan, store = plan_of(), Store(tmp_path_factory.mktemp("made"))
    for pack in plan.packs:
        if pack.preparation:
            run_pack(plan, pack, store, made, PackOptions())
    return made


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty output folder."""
    return Store(tmp_path / "out")
