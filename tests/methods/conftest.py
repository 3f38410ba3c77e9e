"""A micro pair on a batch of digits: real networks, real pixels, real methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitkd_bench.contracts import Batch, CellFacts, Method
from vitkd_bench.networks import ViT, ViTNetwork, create_student
from vitkd_bench.pipeline import TrainStream, open_splits, resolve_dataset
from vitkd_bench.registry import DATASETS, METHODS, RECIPES, TEACHERS
from vitkd_bench.spec import Architecture, Components, ResolvedDataset, Teacher, resolve_student
from vitkd_bench.spec.student import parse_student

MakeMethod = Callable[..., Method]
MakeCell = Callable[..., CellFacts]


@pytest.fixture(autouse=True)
def _one_stream() -> None:
    """Every test draws from the same start, on one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def digits() -> ResolvedDataset:
    """The digits, resolved."""
    return resolve_dataset(DATASETS.get("digits"), {}, (), "test")


@pytest.fixture(scope="session")
def batch(digits: ResolvedDataset) -> Batch:
    """One training batch of 48 digits in two views."""
    recipe = RECIPES.get("micro_pretrain").model_copy(update={"batch_size": 48})
    return TrainStream(open_splits(digits, (), 8).train, recipe, seed=0, views=2).batch(0)


@pytest.fixture(scope="session")
def make_cell(digits: ResolvedDataset) -> MakeCell:
    """Make the facts of a cell: student by word, teacher by name, either with changes."""
    train_size = len(open_splits(digits, (), 8).train)

    def make(
        teacher: str | Teacher | None = "micro/deit",
        student: str | Architecture = "native",
        dataset: ResolvedDataset = digits,
    ) -> CellFacts:
        facts = TEACHERS.get(teacher) if isinstance(teacher, str) else teacher
        shape = facts or TEACHERS.get("micro/deit")
        if isinstance(student, str):
            student = resolve_student(parse_student(student), shape.architecture)
        architecture = facts.architecture if facts else None
        return CellFacts(student, dataset, facts, architecture, RECIPES.get("micro_short"), train_size)

    return make


@pytest.fixture(scope="session")
def make_method() -> MakeMethod:
    """Make a registered method with settings, as the engine does."""

    def make(name: str, cell: CellFacts, **settings: Any) -> Method:
        kind = METHODS.get(name).method
        return kind(kind.Config.parse(settings, "test"), cell)

    return make


def network(
    architecture: Architecture, digits: ResolvedDataset, classes: int = 10, seed: int = 0
) -> ViTNetwork:
    """A network with drawn weights, large enough that its attention is not uniform."""
    made = create_student(architecture, classes, digits.pixels, seed)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    return made


def as_teacher(student: ViTNetwork) -> ViTNetwork:
    """A frozen network with the weights of another."""
    classes = len(student.module.get_parameter("head.weight")) if student.has_head else 0
    vit = ViT(student.architecture, classes)
    vit.load_state_dict(student.module.state_dict())
    return ViTNetwork(vit, student.architecture, student.pixels, frozen=True)


def layer_scaled(value: float = 0.1) -> Components:
    """A component that changes no token."""
    return Components(layer_scale=value)


def query_key_rows(block: nn.Module) -> Tensor:
    """Give the query and key rows (2 D, D) of a block's fused weight (3 D, D), as a view into it."""
    weight = block.get_parameter("attn.qkv.weight")
    return weight.detach()[: 2 * weight.shape[0] // 3]
