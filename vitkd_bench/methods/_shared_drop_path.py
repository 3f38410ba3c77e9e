"""One set of drop path masks for student and teacher, as the published code of attention transfer has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from vitkd_bench.contracts import CellFacts, Features, Network
from vitkd_bench.spec import BadInputError

BRANCHES = ("drop_path1", "drop_path2")  # attention and MLP; the names of timm and of our own networks


def paths_differ(cell: CellFacts) -> str | None:
    """Say in one sentence why the student's masks have no place in the teacher, or nothing."""
    teacher = cell.teacher_architecture
    if teacher is None or teacher.size.depth == cell.student.size.depth:
        return None
    return (
        f"lc_compat gives each block of the teacher the masks of one of the student's, and depths differ: "
        f"{teacher.size.depth} and {cell.student.size.depth}"
    )


class SharedDropPath:
    """Draws a mask for each sample and branch, and holds student and teacher to the same ones.

    A residual branch is multiplied by a mask that is 0 with the block's drop path probability and
    1 / (1 - probability) else (Li et al.'s code, models_dual_vit.py, `get_drop_path_mask`). `read` draws new
    masks, runs the teacher under them, and leaves them to the student's next forward in training mode, also
    to its recomputation in backward. A student without drop path leaves the teacher undisturbed.

    Raises:
        BadInputError: no teacher, or one whose blocks have no such branches.
    """

    def __init__(self, student: Network, teacher: Network | None) -> None:
        if teacher is None:
            raise BadInputError("lc_compat runs the teacher itself, and none was given")
        self._teacher = teacher
        self._paths = [_branches(block, "student") for block in student.blocks]
        self._theirs = [_branches(block, "teacher") for block in teacher.blocks]
        self._masks: dict[tuple[int, int], Tensor] = {}
        for place, path in self._each(self._paths):
            path.register_forward_hook(_hook(self._masks, place, in_training=True))

    def read(self, pixels: Tensor, taps: frozenset[str]) -> Features:
        """Run the teacher on (B, C, H, W) under new masks, without gradients and in its own precision."""
        self._draw(len(pixels), pixels.device)
        handles = [
            path.register_forward_hook(_hook(self._masks, place, in_training=False))
            for place, path in self._each(self._theirs)
        ]
        try:
            with torch.no_grad(), torch.autocast(pixels.device.type, enabled=False):
                return self._teacher(pixels, taps)
        finally:
            for handle in handles:
                handle.remove()

    def _draw(self, samples: int, device: torch.device) -> None:
        for place, path in self._each(self._paths):
            keep = 1 - path.drop_prob if isinstance(path, DropPath) else 1.0
            if keep < 1:
                self._masks[place] = torch.empty(samples, device=device).bernoulli_(keep).div_(keep)

    @staticmethod
    def _each(paths: list[list[nn.Module]]) -> list[tuple[tuple[int, int], nn.Module]]:
        return [((i, j), path) for i, pair in enumerate(paths) for j, path in enumerate(pair)]


def _branches(block: nn.Module, whose: str) -> list[nn.Module]:
    modules = dict(block.named_modules())
    missing = [name for name in BRANCHES if name not in modules]
    if missing:
        raise BadInputError(
            f"lc_compat: the {whose}'s blocks ({type(block).__name__}) have no {missing[0]}; networks of "
            "timm and our own do"
        )
    return [modules[name] for name in BRANCHES]


def _hook(
    masks: dict[tuple[int, int], Tensor], place: tuple[int, int], *, in_training: bool
) -> Callable[..., Tensor | None]:
    """Put the masked input of a drop path in the place of its output."""

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def hook(module: nn.Module, args: tuple[Any, ...], _: Tensor) -> Tensor | None:
        if place not in masks or (in_training and not module.training):
            return None
        branch: Tensor = args[0]
        return branch * masks[place].to(branch.dtype).view(-1, *[1] * (branch.dim() - 1))

    masking: Callable[..., Tensor | None] = hook
    return masking
