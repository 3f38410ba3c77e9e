"""Cells that a method could meet: pairs that differ, and the choices of its settings; refused, or working."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Literal, get_args, get_origin

import torch
from pydantic.fields import FieldInfo

from vitkd_bench.contracts import CellFacts
from vitkd_bench.diagnose.method_bench import Bench, take_step
from vitkd_bench.engine.trainee import Trainee
from vitkd_bench.networks import draw_teacher
from vitkd_bench.plan.teachers import PlannedTeacher
from vitkd_bench.plan.uses import refused
from vitkd_bench.plan.variants import Variant
from vitkd_bench.registry import TEACHERS, MethodEntry
from vitkd_bench.spec import (
    SIZES,
    Architecture,
    Head,
    MethodUse,
    Run,
    Settings,
    Teacher,
    in_words,
    parse_student,
    resolve_student,
)

Pair = tuple[Teacher, Architecture]


def unequal_pairs(bench: Bench) -> Iterator[str]:
    """On pairs that differ in size, grid, tokens or head it is refused in one sentence, or it trains."""
    for what, pair in unequal().items():
        yield from (f"{what}: {wrong}" for wrong in _tried(bench, pair, bench.entry.method.Config()))


def choices_work(bench: Bench) -> Iterator[str]:
    """Each choice that one of its settings offers is refused in one sentence, or it trains."""
    kind = bench.entry.method.Config
    facts = TEACHERS.get("micro/deit")
    for name, field in kind.model_fields.items():
        for value in choices(field):
            config = kind.parse({name: value}, "settings")
            wrong = _tried(bench, (facts, facts.architecture), config)
            yield from (f"{name}={value}: {each}" for each in wrong)


def choices(field: FieldInfo) -> tuple[object, ...]:
    """Give what a setting can be instead of its default, if that is a choice between names or a switch."""
    given = field.annotation
    offered = get_args(given) if get_origin(given) is Literal else (False, True) if given is bool else ()
    return tuple(value for value in offered if value != field.get_default())


def _tried(bench: Bench, pair: Pair, config: Settings) -> Iterator[str]:
    teacher, student = pair
    cell = CellFacts(student, bench.run.dataset, teacher, teacher.architecture, bench.run.recipe)
    planned = PlannedTeacher(teacher.name, teacher, teacher.architecture, use=None)
    why = refused(Variant(bench.entry.name, bench.entry, config), planned, cell)
    if why is None:
        try:
            _two_steps(bench, cell, config)
        except Exception as error:  # noqa: BLE001  (a stranger's method may raise anything)
            yield f"not refused, and fails: {in_words(error)}"
    elif "\n" in why or not why.strip():
        yield f"the refusal is not one sentence: {why!r}"


@lru_cache
def unequal() -> dict[str, Pair]:
    """Name pairs that differ in what methods pair by: the teacher's contract, the student."""
    deit, registers = TEACHERS.get("micro/deit"), TEACHERS.get("micro/dinov2_reg")
    mean = TEACHERS.get("micro/siglip2")
    plain = resolve_student(parse_student("standard"), registers.architecture)
    return {
        "a smaller student": (deit, deit.architecture.with_(size=SIZES["micro_small"])),
        "a larger student": (deit, deit.architecture.with_(size=SIZES["micro_large"])),
        "a student with a coarser grid": (deit, deit.architecture.with_(patch=4)),
        "a teacher with registers and no head": (registers, plain),
        "a student without prefix tokens": (registers, plain.with_(registers=0, class_token=False)),
        "a pair without class token": (mean, resolve_student(parse_student("standard"), mean.architecture)),
    }


def _two_steps(bench: Bench, facts: CellFacts, config: Settings) -> None:
    """Train in a cell that is not refused."""
    entry, data = bench.entry, bench.run.dataset
    cell = _as_met(entry, config, replace(facts, train_size=len(bench.setting.splits.train)))
    network = draw_teacher(cell.teacher, cell.teacher.architecture, 1, "small") if cell.teacher else None
    use = MethodUse(name=entry.name, version=entry.version, settings=config.declared())
    run = Run(student=cell.student, method=use, dataset=data, recipe=bench.run.recipe, seed=0)
    trainee = Trainee(run, cell, len(data.classes), torch.device("cpu"))
    trainee.prepare(network, lambda: (bench.batch(step) for step in range(bench.steps)))
    for step in range(2):
        batch = bench.batch(step)
        taps = trainee.method.teacher_taps()
        with torch.no_grad():
            shared = network is not None and bool(taps) and not entry.method.reads_alone(config)
            read = network(batch.pixels, taps) if network is not None and shared else None
        take_step(trainee, batch, read, bench.steps)


def _as_met(entry: MethodEntry, config: Settings, cell: CellFacts) -> CellFacts:
    """Give the cell as the method meets it in a run: with the teacher that is made for it, or with none."""
    request = entry.method.teacher_run(config, cell)
    if request is None:
        return cell if entry.reads_teacher else replace(cell, teacher=None, teacher_architecture=None)
    made = request.student or cell.student
    head = Head(kind="labels", label_space=cell.dataset.label_space, num_classes=len(cell.dataset.classes))
    contract = cell.teacher and cell.teacher.model_copy(update={"architecture": made, "head": head})
    return replace(cell, teacher=contract, teacher_architecture=made)
