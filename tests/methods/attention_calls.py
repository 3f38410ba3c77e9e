"""Attention calls of given tensors, and a micro pair under a method, for the tests of attention transfer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tests.methods.conftest import as_teacher, network
from vitkd_bench.attention import AttentionCall
from vitkd_bench.contracts import Batch, CellFacts, Features, Method
from vitkd_bench.networks import ViTNetwork, create_student
from vitkd_bench.spec import ResolvedDataset

CallsLoss = Callable[[Sequence[AttentionCall], Sequence[AttentionCall]], Tensor]
PACKED = (2, 2, 3, 2, 4, 3)  # images, blocks, q k v, heads, tokens, width


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Draw a float64 tensor."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def calls_of(packed: Tensor) -> list[AttentionCall]:
    """Cut (B, blocks, 3, H, N, d) into the calls of its blocks: q, k and v."""
    scale = packed.shape[-1] ** -0.5
    return [AttentionCall(q, k, v, None, scale) for q, k, v in (b.unbind(1) for b in packed.unbind(1))]


def on_tensors(loss: CallsLoss) -> Callable[[Tensor, Tensor], Tensor]:
    """Let a loss of calls take one tensor a side, as the laws of losses do."""
    return lambda student, teacher: loss(calls_of(student), calls_of(teacher))


class Pair:
    """A micro student, a teacher of other weights, and a method between them that has fitted."""

    def __init__(self, method: Method, digits: ResolvedDataset, batch: Batch, drop_path: float = 0.0) -> None:
        cell: CellFacts = method.cell
        assert cell.teacher_architecture is not None
        self.method, self.batch = method, batch
        self.student: ViTNetwork = create_student(cell.student, 10, digits.pixels, 0, drop_path)
        self.student.load_state_dict(network(cell.student, digits).state_dict())
        self.teacher = as_teacher(network(cell.teacher_architecture, digits, seed=9))
        self.student.train()
        method.fit(self.student, self.teacher, [batch])

    def read(self) -> Features:
        """Read of the teacher what the method names."""
        return self.teacher(self.batch.pixels, self.method.teacher_taps())

    def parts(self, batch: Batch | None = None) -> dict[str, Tensor]:
        """Take a step up to its loss."""
        return dict(self.method.step(self.student, self.read(), batch or self.batch))

    def backward(self) -> None:
        """Take a step up to its gradients."""
        torch.stack(list(self.parts().values())).sum().backward()

    def rows(self, block: int) -> Tensor:
        """Give a block's fused weight as (q k v, heads, width of a head, width)."""
        return self._parted(self.student.blocks[block].get_parameter("attn.qkv.weight").detach())

    def gradient(self, block: int) -> Tensor:
        """Give the gradient of that weight, likewise."""
        gradient = self.student.blocks[block].get_parameter("attn.qkv.weight").grad
        assert gradient is not None
        return self._parted(gradient)

    def _parted(self, weight: Tensor) -> Tensor:
        return weight.view(3, self.student.architecture.size.heads, -1, weight.shape[-1])
