"""Permuted: the teacher's patches, or its channels, under other numbers for the whole of a run."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from vitkd_bench.attention import AttentionCall
from vitkd_bench.contracts import CellFacts, Control, Features, Method
from vitkd_bench.controls._draws import cycle, stream
from vitkd_bench.registry import CONTROLS


@CONTROLS.register(
    "grid_shuffle",
    title="patches under other numbers",
    claim="that it passes on where in the image something is",
    acts_on=("attention", "tokens"),
)
class GridShuffle(Control):
    """One permutation of the teacher's patches a run, in its maps (queries and keys alike) and its tokens.

    Class token and registers stay, pooled features and logits too. No patch keeps its place.
    """

    @classmethod
    def refuses(cls, config: object, method: Method, cell: CellFacts) -> str | None:
        teacher = cell.teacher_architecture
        if teacher is not None and teacher.grid < 2:
            return f"a grid of {teacher.grid} x {teacher.grid} patches cannot be shuffled"
        return None

    def order(self) -> Tensor:
        """Give the teacher's token (N,) that is seen in each place."""
        teacher = self.cell.teacher_architecture
        if teacher is None:
            raise TypeError("grid_shuffle permutes a teacher's patches, and the cell has no teacher")
        patches = teacher.prefix + cycle(teacher.tokens - teacher.prefix, stream(self.seed, "patches"))
        return torch.cat([torch.arange(teacher.prefix), patches])

    def seen(self, teacher: Features, ids: Tensor, labels: Tensor | None = None, epoch: int = 0) -> Features:
        order = self.order()
        return replace(
            teacher,
            attention={i: _at(order, call) for i, call in teacher.attention.items()},
            tokens={i: tokens[:, order.to(tokens.device)] for i, tokens in teacher.tokens.items()},
        )


@CONTROLS.register(
    "permuted_channels",
    title="channels under other numbers",
    claim="that it matters which of the student's channels meets which of the teacher's",
    acts_on=("tokens", "pooled"),
)
class PermutedChannels(Control):
    """One permutation of the teacher's channels a run, in its tokens and pooled features; logits stay.

    A method with a trained projector is to do as well as without: the order of channels means nothing to it.
    """

    def seen(self, teacher: Features, ids: Tensor, labels: Tensor | None = None, epoch: int = 0) -> Features:
        return replace(
            teacher,
            pooled=None if teacher.pooled is None else self._permuted(teacher.pooled),
            tokens={i: self._permuted(tokens) for i, tokens in teacher.tokens.items()},
        )

    def _permuted(self, features: Tensor) -> Tensor:
        width = features.shape[-1]
        return features[..., cycle(width, stream(self.seed, "channels", width)).to(features.device)]


def _at(order: Tensor, call: AttentionCall) -> AttentionCall:
    """Number the tokens of a self-attention call anew; a bias that is broadcast along a side stays so."""
    order, bias = order.to(call.q.device), call.bias
    for dim in (-2, -1):
        if bias is not None and bias.dim() >= -dim and bias.shape[dim] > 1:
            bias = bias.index_select(dim, order)
    return replace(call, q=call.q[:, :, order], k=call.k[:, :, order], v=call.v[:, :, order], bias=bias)
