"""Made-up results, written through the real store: what a report would find after a run."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitkd_bench.records import Store
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
    Refusal,
    ResolvedDataset,
    Run,
    TeacherFacts,
    TeacherUse,
)

IMAGES = 360
COMPONENTS = {
    "deit": Components(),
    "mae": Components(),
    "dino": Components(),
    "clip": Components(norm_pre=True),
    "dinov2": Components(layer_scale=1e-5),
}
FAILING = {"clip", "dinov2"}
KINDS = {"none": "baseline", "attn_copy": "attention", "attn_distill": "attention", "kd": "logit"}
DIGITS = ResolvedDataset(
    name="digits",
    version=1,
    channels=1,
    image_size=8,
    pixels=PixelStats(mean=(0.5,), std=(0.5,)),
    classes=tuple(ClassInfo(name=str(i)) for i in range(10)),
    label_space="digits",
    shifts=("rotate",),
)
RECIPE = Recipe(name="micro_short", epochs=8, batch_size=64, lr=1e-3)
Outcome = int | str | None
"""Right answers among 360, "failed", or None for a run that is missing."""


class Bench:
    """One output folder in the making: add cells with their outcomes by seed, then save."""

    def __init__(self, folder: Path, *, recipe: Recipe = RECIPE, split_hash: str = "s" * 16) -> None:
        """Start with nothing planned."""
        self.store = Store(folder)
        self.recipe = recipe
        self.split_hash = split_hash
        self.weights = "ab" * 32
        self.method_version = 1
        self.settings: dict[str, Any] = {}
        self.cells: list[Cell] = []
        self.refusals: list[Refusal] = []
        self.runs: dict[str, Run] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.own_weights = False
        self.group = "micro"
        self.seen: tuple[str, ...] = ()
        self.dataset = DIGITS

    def run(self, teacher: str, student: str, method: str, seed: int) -> Run:
        """The resolved run of a cell."""
        components = COMPONENTS[teacher] if student == "native" else Components()
        use = TeacherUse(name=f"micro/{teacher}", pin=f"run:{teacher}", key=teacher, image_size=8, version=1)
        plain = method == "none"
        return Run(
            student=Architecture(
                channels=1, image_size=8, patch=2, size=SIZES["micro"], components=components
            ),
            method=MethodUse(
                name=method,
                version=1 if plain else self.method_version,
                settings={} if plain else self.settings,
            ),
            teacher=None if plain else use,
            dataset=self.dataset,
            recipe=self.recipe,
            seed=seed,
        )

    def add(self, teacher: str, student: str, method: str, outcomes: Mapping[int, Outcome]) -> None:
        """Plan a cell with one run a seed, and say how each ended."""
        runs = {seed: self.run(teacher, student, method, seed) for seed in outcomes}
        bases = {str(seed): self.run(teacher, student, "none", seed).id for seed in outcomes}
        for seed, run in runs.items():
            self.runs[run.id] = run
            self.outcomes[run.id] = outcomes[seed]
        ids = {str(seed): run.id for seed, run in runs.items()}
        names = {"teacher": f"micro/{teacher}", "student": student, "method": method, "dataset": "digits"}
        self.cells.append(Cell.parse({**names, "runs": ids, "baselines": bases}))

    def refuse(self, teacher: str, student: str, method: str, reason: str) -> None:
        """Plan a refusal."""
        names = {"teacher": f"micro/{teacher}", "student": student, "method": method, "dataset": "digits"}
        self.refusals.append(Refusal.parse({**names, "kind": "impossible", "reason": reason}))

    def save(self) -> Path:
        """Write the plan and all records."""
        self.store.write_plan(self._plan())
        for id_, run in self.runs.items():
            outcome = self.outcomes[id_]
            if isinstance(outcome, int):
                self.store.write(self._record(run, outcome), predictions(run, outcome))
            elif outcome == "failed":
                self.store.write(self._record(run, None))
        return self.store.folder

    def _plan(self) -> Plan:
        families = {
            f"micro/{name}": TeacherFacts(
                name=f"micro/{name}",
                family=name,
                group=self.group,
                seen=self.seen,
                outcome="fails" if name in FAILING else "transfers",
                own_weights=self.own_weights,
            )
            for name in COMPONENTS
        }
        methods = {
            name: MethodFacts(name=name, title=name, kind=kind, needs_teacher_at_test=name == "attn_copy")
            for name, kind in KINDS.items()
        }
        return Plan(
            suite="synthetic",
            resolved={},
            cells=tuple(self.cells),
            refusals=tuple(self.refusals),
            runs=self.runs,
            packs=(Pack(id="p", runs=tuple(self.runs)),),
            teachers=families,
            methods=methods,
        )

    def _record(self, run: Run, right: int | None) -> Record:
        """A finished record with so many right answers; a failed one without a number."""
        top1 = (right or 0) / IMAGES
        metrics = {
            "val": {"n": 180.0, "top1": top1},
            "test": {"n": float(IMAGES), "top1": top1, "mean_per_class": top1, "nll": 0.5},
            "digits/rotate": {"n": float(IMAGES), "top1": top1 / 2, "mean_per_class": top1 / 2},
        }
        hardware = {
            "device": "A processor",
            "threads": 1,
            "instruction_set": "AVX2",
            "system": "Linux x86_64",
        }
        return Record.parse(
            {
                "schema": 1,
                "run_id": run.id,
                "cell_key": run.cell_key,
                "status": "failed" if right is None else "done",
                "cell": {
                    "teacher": run.teacher.name if run.teacher else None,
                    "student": "standard",
                    "method": run.method.name,
                    "dataset": "digits",
                    "recipe": run.recipe.name,
                },
                "versions": run.versions,
                "seed": run.seed,
                "protocol": run.protocol,
                "label_space": "digits",
                "split_hash": self.split_hash,
                "config": {},
                "metrics": {} if right is None else metrics,
                "cost": {"wall_s": 3.25, "device": "cpu"},
                "provenance": {
                    "code": {"commit": "c0ffee" * 6, "dirty": False},
                    "versions": {"torch": "2.13", "python": "3.11"},
                    "hardware": hardware,
                    "teacher_weights_sha256": self.weights if run.teacher else None,
                },
                "created": "2026-01-01T00:00:00+00:00",
                "error": None
                if right is not None
                else {"kind": "non_finite_loss", "message": "loss is inf", "step": 17, "last_good_loss": 2.5},
            }
        )


def predictions(run: Run, right: int) -> dict[str, np.ndarray]:
    """Predictions on 360 images, the first of a shuffled order right."""
    generator = np.random.default_rng(run.seed)
    label = generator.integers(0, 10, IMAGES)
    guess = (label + 1) % 10
    chosen = generator.permutation(IMAGES)[:right]
    guess[chosen] = label[chosen]
    return {
        "test/ids": np.array([f"image-{i}" for i in range(IMAGES)]),
        "test/label": label.astype(np.int32),
        "test/top5": np.stack([(guess + k) % 10 for k in range(5)], axis=1).astype(np.int32),
    }


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Bench]:
    """Starts an output folder of a name."""

    def start(name: str = "out", **changes: Any) -> Bench:
        return Bench(tmp_path / name, **changes)

    return start


def half_way(made: Bench) -> Path:
    """Fill a folder with gains, losses, doubts, refusals, failures and missing runs."""
    for i, teacher in enumerate(COMPONENTS):
        for student in ("standard", "native"):
            better = 0 if student == "standard" or teacher not in FAILING else -2
            base = {seed: 310 + better + seed for seed in range(3)}
            made.add(teacher, student, "none", base)
            sign = -1 if teacher in FAILING and student == "standard" else 1
            for j, method in enumerate(("attn_copy", "attn_distill")):
                shift = sign * (14 - 6 * j - i)
                made.add(teacher, student, method, {s: n + shift + (s * 7 + i) % 3 for s, n in base.items()})
            if teacher in {"deit", "clip"}:
                made.add(teacher, student, "kd", {0: base[0] + 3, 1: "failed", 2: None})
            else:
                made.refuse(
                    teacher, student, "kd", f"micro/{teacher} has no head | for 100 % of <digits>_classes"
                )
    return made.save()


@pytest.fixture(scope="session")
def half_way_done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite as it looks half way; to be read and not changed."""
    return half_way(Bench(tmp_path_factory.mktemp("half_way") / "out"))


@pytest.fixture
def full(half_way_done: Path, tmp_path: Path) -> Path:
    """A copy of that suite of one's own."""
    return Path(shutil.copytree(half_way_done, tmp_path / "out", ignore=shutil.ignore_patterns("report")))
