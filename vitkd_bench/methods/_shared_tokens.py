"""The tokens that student and teacher both have, where a method pairs token by token."""

from __future__ import annotations

import torch
from torch import Tensor

from vitkd_bench.spec import Architecture


def common_tokens(own: Architecture, other: Architecture) -> tuple[int, ...]:
    """Positions among the tokens of `own` of those that `other` has too, in the same order for both.

    The class token if both have one, registers up to the smaller number, then the patches, whose grids must
    be equal.

    Raises:
        ValueError: the grids differ.
    """
    if own.grid != other.grid:
        raise ValueError(f"grids differ: {own.grid} and {other.grid}")
    first = int(own.class_token)
    class_token = range(int(own.class_token and other.class_token))
    registers = range(first, first + min(own.registers, other.registers))
    return (*class_token, *registers, *range(own.prefix, own.tokens))


def keep(tokens: Tensor, positions: tuple[int, ...], *dims: int) -> Tensor:
    """Take some positions of a tensor along `dims`, each of which counts tokens; all of them cost nothing."""
    for dim in dims:
        if len(positions) < tokens.shape[dim]:
            tokens = tokens.index_select(dim, torch.tensor(positions, device=tokens.device))
    return tokens


def uncommon(student: Architecture, teacher: Architecture) -> tuple[str, ...]:
    """Say which tokens are left out because one side lacks them: one sentence for the record, or none."""
    names = ["the class token"] * (student.class_token != teacher.class_token)
    if student.registers != teacher.registers:
        names.append(f"{abs(student.registers - teacher.registers)} registers")
    if not names:
        return ()
    return (f"{' and '.join(names)} left out of the comparison of tokens: one side has none",)
