"""Small records, and a plan of two runs and one preparation."""

from collections.abc import Callable
from typing import Any

import pytest

from vitkd_bench.spec import (
    SIZES,
    Architecture,
    Cell,
    ClassInfo,
    Components,
    MethodFacts,
    MethodUse,
    Pack,
    PixelStats,
    Plan,
    Recipe,
    Record,
    ResolvedDataset,
    Run,
    TeacherFacts,
    TeacherUse,
)

HALF = PixelStats(mean=(0.5,), std=(0.5,))
DIGITS = ResolvedDataset(
    name="digits",
    version=1,
    channels=1,
    image_size=8,
    pixels=HALF,
    classes=tuple(ClassInfo(name=str(i)) for i in range(10)),
    label_space="digits",
)


def run(method: str = "none", seed: int = 0, version: int = 1, pin: str | None = None) -> Run:
    """A resolved run on the embedded digits."""
    teacher = pin and TeacherUse(name="micro/deit", pin=f"run:{pin}", key="k", image_size=8, version=1)
    return Run(
        student=Architecture(channels=1, image_size=8, patch=2, size=SIZES["micro"], components=Components()),
        method=MethodUse(name=method, version=version),
        teacher=teacher or None,
        dataset=DIGITS,
        recipe=Recipe(name="micro_short", epochs=2, batch_size=32, lr=1e-3),
        seed=seed,
    )


def record(of: Run, **changes: Any) -> Record:
    """A sound record of a run, failed if `error` is given."""
    base: dict[str, Any] = {
        "run_id": of.id,
        "cell_key": of.cell_key,
        "status": "failed" if "error" in changes else "done",
        "cell": {
            "student": "standard",
            "method": of.method.name,
            "dataset": "digits",
            "recipe": "micro_short",
        },
        "versions": of.versions,
        "seed": of.seed,
        "protocol": of.protocol,
        "label_space": "digits",
        "config": {"where": "Zürich"},
        "metrics": {"test": {"n": 360.0, "top1": 1 / 3}, "digits/rotate": {"n": 360.0, "top1": 1e-05}},
        "created": "2026-01-01T00:00:00+00:00",
    }
    if "error" in changes:
        base["metrics"] = {}
    return Record.parse({"schema": 1, **base, **changes})


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Run]:
    """Builds runs."""
    return run


@pytest.fixture(scope="session")
def make_record() -> Callable[..., Record]:
    """Builds records."""
    return record


@pytest.fixture(scope="session")
def plan() -> Plan:
    """One preparation and, on it, `none` and `kd` with one seed."""
    made = run("pretrain_labels")
    none, kd = run("none"), run("kd", pin=made.id)
    names: dict[str, Any] = {"teacher": "micro/deit", "student": "standard", "dataset": "digits"}
    cells = (
        Cell(**names, method="none", runs={"0": none.id}),
        Cell(**names, method="kd", runs={"0": kd.id}, baselines={"0": none.id}),
    )
    return Plan(
        suite="tiny",
        resolved={},
        cells=cells,
        runs={none.id: none, kd.id: kd},
        preparations={made.id: made},
        packs=(Pack(id="p", runs=(none.id, kd.id), needs=(made.id,)),),
        teachers={"micro/deit": TeacherFacts(name="micro/deit", family="deit", group="micro")},
        methods={name: MethodFacts(name=name, title=name, kind="logit") for name in ("none", "kd")},
    )
