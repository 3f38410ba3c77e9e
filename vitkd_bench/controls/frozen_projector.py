"""Frozen projector: the maps between student and teacher stay as they were drawn."""

from __future__ import annotations

from torch import nn

from vitkd_bench.contracts import CellFacts, Control, Method
from vitkd_bench.registry import CONTROLS


@CONTROLS.register(
    "frozen_projector",
    title="random projector that is not trained",
    claim="that its projector has to learn",
    kinds=("feature", "relation"),
)
class FrozenProjector(Control):
    """All parameters of the method's own keep their first values; the student alone is trained."""

    @classmethod
    def refuses(cls, config: object, method: Method, cell: CellFacts) -> str | None:
        if isinstance(method, nn.Module) and any(True for _ in method.parameters()):
            return None
        return "the method has no parameters of its own to freeze"

    def alter(self, method: Method) -> None:
        """Freeze them."""
        if isinstance(method, nn.Module):
            method.requires_grad_(requires_grad=False)

    def notes(self) -> tuple[str, ...]:
        return ("the method's own parameters stay as they were drawn",)
