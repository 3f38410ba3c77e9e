"""Where a method is tested: micro networks with drawn weights, a part of the digits, two short epochs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from torch import Tensor

from vitkd_bench.contracts import Batch, Features
from vitkd_bench.contracts.taps import LOGITS, POOLED, attention, tokens
from vitkd_bench.engine import Interrupted, PackOptions, run_pack
from vitkd_bench.engine.outcome import digest, weights_bytes
from vitkd_bench.engine.parts import Part
from vitkd_bench.engine.setting import Setting, settle
from vitkd_bench.engine.trainee import Trainee
from vitkd_bench.networks import ViTNetwork, create_student
from vitkd_bench.pipeline import TrainStream, resolve_dataset
from vitkd_bench.plan import Inventory, SuiteFile, plan_suite
from vitkd_bench.records import Preparations, Store
from vitkd_bench.registry import DATASETS, TEACHERS, MethodEntry
from vitkd_bench.spec import BadInputError, Pack, Plan, ResolvedDataset, Run, Source, Suite

TEACHERS_AT_HAND = ("micro/deit", "micro/dinov2_reg")
"""The first has a head and no part that a plain ViT lacks, the second registers and no head."""

SUITE = {
    "suite": "conformance",
    "version": 1,
    "datasets": [{"name": "digits", "subset": {"per_class": 12}}],
    "recipe": {"base": "micro_short", "epochs": 2, "batch_size": 40},
    "students": ["standard", "native"],
    "seeds": [0],
    "evaluate": ["test"],
    "keep": "student",
}


@lru_cache
def drawn_weights(teacher: str) -> bytes:
    """Give safetensors that fit a micro teacher, every weight drawn: what it knows plays no part here."""
    contract = TEACHERS.get(teacher)
    classes = contract.head.num_classes if contract.head else 0
    return weights_bytes(create_student(contract.architecture, classes, contract.pixels, seed=1, law="small"))


@dataclass
class Bench:
    """One method on its pair: the first of a few that it does not refuse.

    `folder` takes what is written. The plan, the loop and the record are the engine's own.
    """

    entry: MethodEntry
    folder: Path

    @cached_property
    def plan(self) -> Plan:
        """The method and its mates in a pack, on each teacher and student at hand."""
        names = dict.fromkeys((self.entry.name, "none", "attn_distill"))
        files = [{"name": name, "weights": str(self._weights(name))} for name in TEACHERS_AT_HAND]
        suite = Suite.parse({**SUITE, "teachers": files, "methods": list(names)}, "conformance")
        pins = {
            name: Source(path=str(self._weights(name)), sha256=digest(drawn_weights(name)))
            for name in TEACHERS_AT_HAND
        }
        data = {entry.label: self._digits(entry.settings) for entry in suite.datasets}
        return plan_suite(SuiteFile(suite, self.folder / "suite.yaml"), Inventory(data, weights=pins))

    def _weights(self, teacher: str) -> Path:
        path = self.folder / f"{teacher.replace('/', '_')}.safetensors"
        if not path.exists():
            path.write_bytes(drawn_weights(teacher))
        return path

    @staticmethod
    def _digits(settings: dict[str, object]) -> ResolvedDataset:
        return resolve_dataset(DATASETS.get("digits"), settings, (), "conformance")

    @cached_property
    def run(self) -> Run:
        """The run that is tested.

        Raises:
            BadInputError: the method refuses every pair at hand.
        """
        cell = next((cell for cell in self.plan.cells if cell.method == self.entry.name), None)
        if cell is None:
            why = next(r.reason for r in self.plan.refusals if r.method == self.entry.name)
            raise BadInputError(f"it is refused on every pair at hand: {why}")
        return self.plan.runs[cell.runs["0"]]

    @property
    def mate(self) -> Run:
        """A run of the same pair that can share a pack with this one: it reads the same teacher or none."""
        teacher, name = self.run.teacher, self.entry.name
        made = teacher is not None and teacher.preparation is not None
        wanted = "none" if made or name == "attn_distill" else "attn_distill"
        own = next(cell for cell in self.plan.cells if cell.runs["0"] == self.run.id)
        pair = (own.teacher, own.student, wanted)
        found = next(c for c in self.plan.cells if (c.teacher, c.student, c.method) == pair)
        return self.plan.runs[found.runs["0"]]

    @cached_property
    def preparations(self) -> Preparations:
        """What the run needs made first, made."""
        made = Preparations(self.folder / "preparations")
        wanted = set(self.run.teacher.preparations) if self.run.teacher else set()
        packs = [pack for pack in self.plan.packs if pack.preparation]
        for pack in reversed(packs):
            wanted |= set(pack.needs) if wanted & set(pack.runs) else set()
        for pack in packs:
            if wanted & set(pack.runs):
                run_pack(self.plan, pack, Store(self.folder / "making"), made, PackOptions())
        return made

    def executed(self, name: str, runs: tuple[Run, ...], *, interrupted: bool = False) -> Store:
        """Train runs as one pack into a folder `name`; interrupted in the second epoch, and then resumed."""
        store = Store(self.folder / name)
        pack = Pack(id=name, runs=tuple(run.id for run in runs))
        if interrupted:
            asked = iter(range(10_000))
            late = PackOptions(should_stop=lambda: next(asked) > self.steps + 1, checkpoint_s=0.0)
            with contextlib.suppress(Interrupted):
                run_pack(self.plan, pack, store, self.preparations, late)
        run_pack(self.plan, pack, store, self.preparations, PackOptions())
        return store

    @cached_property
    def together(self) -> Store:
        """The run and another beside it, trained."""
        return self.executed("together", (self.run, self.mate))

    # --- one step at a time ---

    @cached_property
    def setting(self) -> Setting:
        """The run's data and teacher, as the engine opens them."""
        return settle(self.plan, [self.run], self.preparations, PackOptions())

    @property
    def teacher(self) -> ViTNetwork | None:
        """The teacher that the run reads: the same for all that is tried here."""
        return self.setting.teacher

    def untouched_teacher(self) -> ViTNetwork | None:
        """Load that teacher again, as it was before anything was tried."""
        return settle(self.plan, [self.run], self.preparations, PackOptions()).teacher

    @property
    def needs(self) -> tuple[str, ...]:
        """What the method says that it needs, at its default settings."""
        return self.entry.needs_under(self.entry.method.Config())

    @property
    def reads_alone(self) -> bool:
        """Whether the method runs the teacher itself."""
        return self.entry.method.reads_alone(self.entry.method.Config())

    @cached_property
    def stream(self) -> TrainStream:
        """The batches of the first epoch."""
        return self.setting.stream(0)

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return len(self.stream)

    def batch(self, step: int) -> Batch:
        """Give a batch as the engine gives it."""
        return self.stream.batch(step)

    def begun(self) -> Trainee:
        """Start the run anew, up to its first step.

        Raises:
            BadInputError: its student or method cannot be made.
        """
        trainee = self.setting.fresh(self.run)
        setting = self.setting
        batch_size = setting.recipe.batch_size
        trainee.prepare(self.teacher, lambda: setting.showing.plain(setting.splits.train, batch_size))
        return trainee

    def everything(self, batch: Batch) -> Features | None:
        """Give all that the teacher has to read, on one batch."""
        if self.setting.stored is not None:
            return self.setting.stored.read(batch, frozenset({LOGITS}))
        if self.teacher is None:
            return None
        blocks = range(len(self.teacher.blocks))
        head = {LOGITS} if self.teacher.has_head else set()
        asked = {POOLED, *head, *map(attention, blocks), *map(tokens, blocks)}
        with torch.no_grad():
            return self.teacher(batch.for_teacher, frozenset(asked))

    def read(self, trainee: Trainee, batch: Batch) -> Features | None:
        """Give what the method names of the teacher, as the loop does; nothing where it reads it alone."""
        taps = trainee.method.teacher_taps()
        return None if self.reads_alone else self.setting.read(batch, taps)

    def step(self, trainee: Trainee, number: int) -> None:
        """Take an optimiser step.

        Raises:
            BadInputError: it failed, with what the record would say.
        """
        batch = self.batch(number)
        take_step(trainee, batch, self.read(trainee, batch), self.steps)


def take_step(trainee: Trainee, batch: Batch, read: Features | None, steps_per_epoch: int) -> None:
    """Take an optimiser step as the loop does.

    Raises:
        BadInputError: it failed, with what the record would say.
    """
    trainee.train_step(Part(batch), read, steps_per_epoch)
    if trainee.failure is not None:
        raise BadInputError(f"step {trainee.step_count}: {trainee.failure.kind}: {trainee.failure.message}")


def losses(trainee: Trainee, read: Features | None, batch: Batch) -> dict[str, Tensor]:
    """Give the parts of the loss of one step that is not taken; the graph of their gradients is kept."""
    for module in trainee.modules:
        module.train()
    with trainee.random.swapped_in(trainee.device):
        return trainee.method.step(trainee.network, read, batch)


def picked(features: Features, wanted: Callable[[str], bool]) -> Features:
    """Keep those taps of what was read whose name is wanted."""
    return replace(
        features,
        logits=features.logits if wanted(LOGITS) else None,
        pooled=features.pooled if wanted(POOLED) else None,
        attention={i: call for i, call in features.attention.items() if wanted(attention(i))},
        tokens={i: each for i, each in features.tokens.items() if wanted(tokens(i))},
    )


def tensors_held(value: object, *, deep: int = 4) -> Iterator[tuple[Tensor, bool]]:
    """Give every tensor that is reached from `value`, and whether it trains."""
    if isinstance(value, Tensor):
        yield value, value.requires_grad and value.is_leaf
    elif isinstance(value, torch.nn.Module):
        for parameter in value.parameters():
            yield parameter, parameter.requires_grad
    elif isinstance(value, dict) and deep:
        for each in value.values():
            yield from tensors_held(each, deep=deep - 1)
    elif isinstance(value, list | tuple | set) and deep:
        for each in value:
            yield from tensors_held(each, deep=deep - 1)
