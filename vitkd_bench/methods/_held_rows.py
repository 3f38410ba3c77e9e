"""Query, key and value rows that a method leaves unused, held against weight decay."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

ORDER = "qkv"  # of the rows in a block's fused weight


class HeldRows:
    """Rows of the fused q, k, v weights of some blocks, as they were when this was made.

    `parts` are letters of q, k and v, `heads` head numbers of `count` in all. Such rows share a tensor with
    rows that are used, so their gradient is exactly zero but not absent, and decay would shrink them.
    """

    def __init__(self, blocks: Iterable[nn.Module], parts: str, heads: Iterable[int], count: int) -> None:
        chosen = tuple(heads)
        self._held: list[tuple[Tensor, Tensor, Tensor]] = []
        for block in blocks:
            weight = block.get_parameter("attn.qkv.weight").detach()
            rows = _rows(len(weight) // 3, parts, chosen, count).to(weight.device)
            self._held.append((weight, rows, weight[rows].clone()))

    def __len__(self) -> int:
        """Count the weights that are held."""
        return sum(initial.numel() for _, _, initial in self._held)

    def restore(self) -> None:
        """Write the initial rows back."""
        for weight, rows, initial in self._held:
            weight.index_copy_(0, rows, initial)


def _rows(width: int, parts: str, heads: tuple[int, ...], count: int) -> Tensor:
    """Number the rows of a fused weight (3 width, D) that make these parts of these heads."""
    numbers = torch.arange(3 * width).view(3, count, width // count)
    return torch.cat([numbers[ORDER.index(part)][list(heads)].flatten() for part in parts])
