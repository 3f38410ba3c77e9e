"""Weight selection: a smaller student starts from evenly spaced weights of the teacher (arXiv:2311.18823)."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from vitkd_bench.contracts import CellFacts, Network
from vitkd_bench.methods._from_teacher import StartsFromTeacher, of_head
from vitkd_bench.methods._layers import paired_blocks
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Architecture

Elements = Literal["uniform", "consecutive", "random"]
Indices = Callable[[int, int], Tensor]
"""Gives, of so many positions, that many, ascending: (count,) int64."""

_BLOCK = re.compile(r"blocks\.(\d+)\.")


def uniform_indices(of: int, count: int) -> Tensor:
    """Give `count` evenly spaced positions among `of`, (count,) int64, the first of them 0.

    Every (of / count)-th where that is whole, else the rounded points of a line from 0 to of - 1. Source:
    OscarXZQ/weight-selection `weight_selection.py`.
    """
    if of % count == 0:
        return torch.arange(count) * (of // count)
    return torch.linspace(0, of - 1, count).round().long()


INDICES: dict[str, Indices] = {
    "uniform": uniform_indices,
    "consecutive": lambda _, count: torch.arange(count),
}


def weight_selection(
    weight: Tensor, shape: tuple[int, ...], groups: int = 1, indices: Indices = uniform_indices
) -> Tensor:
    """Select a tensor of `shape` from a larger one of as many dimensions, by positions along each of them.

    `groups` says of how many equal parts the first dimension is made (3 for query, key and value in one
    matrix): each is selected from by itself. Source: arXiv:2311.18823.

    Raises:
        ValueError: `shape` is larger somewhere, or of another number of dimensions.
    """
    if weight.dim() != len(shape) or any(w < s for w, s in zip(weight.shape, shape, strict=True)):
        raise ValueError(f"a tensor of {tuple(shape)} cannot be selected from one of {tuple(weight.shape)}")
    selected = weight.reshape(groups, -1, *weight.shape[1:])
    for dim, count in enumerate((shape[0] // groups, *shape[1:]), start=1):
        of = selected.shape[dim]
        if of != count:
            selected = selected.index_select(dim, indices(of, count).to(selected.device))
    return selected.flatten(0, 1)


@METHODS.register(
    "weight_selection",
    title="Weight selection",
    kind="weights",
    paper="arXiv:2311.18823",
    needs=("grid",),
    budget="0 for a weight, there is none; elements: {uniform, consecutive, random}",
)
class WeightSelection(StartsFromTeacher):
    """Cross-entropy with the labels, from weights selected out of the teacher's; the teacher runs in no step.

    Of the blocks the first are taken, as published, or evenly spaced ones; of each tensor evenly spaced rows
    and columns, the same in all tensors, so that channels still fit together. Their heads do not: a student's
    head is made of channels of several of the teacher's. The head is drawn. The published rule goes over
    query, key and value as one matrix; where the widths do not divide, that may take other channels of the
    values than columns that read them (from 1024 to 768 it does). Here each is selected from by itself, which
    is the same where they divide. A layer scale that the student lacks is dropped, or folded in beforehand.
    """

    class Config(StartsFromTeacher.Config):
        blocks: Literal["first", "even"] = Field(
            default="first", description="which blocks: the first ones, or evenly spaced"
        )
        elements: Elements = Field(
            default="uniform", description="which channels: evenly spaced, the first, or drawn once for all"
        )

    @classmethod
    def refuses(cls, config: Config, cell: CellFacts) -> str | None:
        teacher = cell.teacher_architecture
        return None if teacher is None else _too_large(cell.student, teacher)

    def wanted(self, name: str) -> bool:
        return not of_head(name)

    def weights_of(self, student: Network, teacher: Network) -> dict[str, Tensor]:
        """Select what has the student's shapes; a tensor that the teacher lacks stays away."""
        weights = super().weights_of(student, teacher)
        taken = _blocks(self.config.blocks, self.cell.student.size.depth, teacher.architecture.size.depth)
        indices = _drawn_once() if self.config.elements == "random" else INDICES[self.config.elements]
        gated = self.cell.student.components.mlp != "plain"
        selected = {}
        for name, parameter in student.module.named_parameters():
            source = _BLOCK.sub(lambda found: f"blocks.{taken[int(found[1])]}.", name)
            if source in weights and not of_head(name):
                groups = 3 if ".attn.qkv." in name else 2 if gated and ".mlp.fc1." in name else 1
                selected[name] = weight_selection(weights[source], parameter.shape, groups, indices)
        return selected

    def notes(self) -> tuple[str, ...]:
        depth, teacher = self.cell.student.size.depth, self.cell.teacher_architecture
        if teacher is None:
            return super().notes()
        taken = ", ".join(map(str, _blocks(self.config.blocks, depth, teacher.size.depth)))
        return (*super().notes(), f"its blocks are selected from the teacher's blocks {taken}")


def _blocks(which: Literal["first", "even"], depth: int, taught: int) -> tuple[int, ...]:
    """Number the teacher's blocks that a student's are taken from, in the student's order."""
    return tuple(range(depth)) if which == "first" else tuple(paired_blocks("all", depth, taught).values())


def _drawn_once() -> Indices:
    """Draw positions from the global generator, one set for each pair of sizes."""

    @cache
    def drawn(of: int, count: int) -> Tensor:
        return torch.randperm(of)[:count].sort().values

    return drawn


def _too_large(student: Architecture, teacher: Architecture) -> str | None:
    ours, theirs = student.size, teacher.size
    hidden = (round(ours.width * ours.mlp_ratio), round(theirs.width * theirs.mlp_ratio))
    for what, of_student, of_teacher in (
        ("width", ours.width, theirs.width),
        ("depth", ours.depth, theirs.depth),
        ("heads", ours.heads, theirs.heads),
        ("width of the MLP", *hidden),
    ):
        if of_student > of_teacher:
            return f"weight_selection needs a smaller student: {what} {of_student}, teacher {of_teacher}"
    if student.components.mlp != teacher.components.mlp:
        forms = f"student {student.components.mlp}, teacher {teacher.components.mlp}"
        return f"forms of the MLP differ: {forms}; weight_selection selects from the same layers"
    return None
