"""Features of a made-up teacher of digits, and controls of a cell that reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from vitkd_bench.attention import AttentionCall
from vitkd_bench.contracts import CellFacts, Control, Features
from vitkd_bench.pipeline import resolve_dataset
from vitkd_bench.registry import CONTROLS, DATASETS, METHODS, RECIPES, TEACHERS
from vitkd_bench.spec import resolve_student
from vitkd_bench.spec.student import parse_student

MakeControl = Callable[..., Control]
Refusal = Callable[..., str | None]
IMAGES = 6


@pytest.fixture(scope="session")
def cell() -> CellFacts:
    """A standard student of micro/deit, which has a head for the digits."""
    teacher = TEACHERS.get("micro/deit")
    digits = resolve_dataset(DATASETS.get("digits"), {}, (), "test")
    student = resolve_student(parse_student("standard"), teacher.architecture)
    return CellFacts(student, digits, teacher, teacher.architecture, RECIPES.get("micro_short"))


@pytest.fixture(scope="session")
def features(cell: CellFacts) -> Features:
    """All that can be read of the teacher, six images of it, with a bias of every shape."""
    facts = cell.teacher_architecture
    assert facts is not None
    made = torch.Generator().manual_seed(0)
    n, width, heads = facts.tokens, facts.size.width, facts.size.heads

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=made)

    biases = [None, normal(heads, n, n), normal(IMAGES, heads, n, n), normal(IMAGES, 1, 1, n)]
    calls = {
        i: AttentionCall(
            q=normal(IMAGES, heads, n, width // heads),
            k=normal(IMAGES, heads, n, width // heads),
            v=normal(IMAGES, heads, n, width // heads),
            bias=bias,
            scale=0.3,
        )
        for i, bias in enumerate(biases)
    }
    tokens = {i: normal(IMAGES, n, width) for i in range(facts.size.depth)}
    return Features(normal(IMAGES, 10), normal(IMAGES, width), calls, tokens)


@pytest.fixture
def make_control(cell: CellFacts) -> MakeControl:
    """Make a registered control with settings, as the engine does."""

    def make(name: str, seed: int = 0, **settings: Any) -> Control:
        kind = CONTROLS.get(name).control
        return kind(kind.Config.parse(settings, "test"), cell, seed)

    return make


@pytest.fixture
def refusal(cell: CellFacts) -> Refusal:
    """Ask a control whether it applies to a method, with settings of either, in a cell."""

    def ask(control: str, method: str, where: CellFacts = cell, **settings: Any) -> str | None:
        entry, asked = METHODS.get(method), CONTROLS.get(control)
        own = settings.pop("of_method", {})
        made = entry.method(entry.method.Config.parse(own, "test"), where)
        return asked.refuses(asked.control.Config.parse(settings, "test"), entry, made, where)

    return ask
