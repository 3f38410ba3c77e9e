"""The contract of a network: a ViT that takes pixels in [0, 1] and gives features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from vitkd_bench.attention import AttentionCall
    from vitkd_bench.contracts.features import Features
    from vitkd_bench.spec import Architecture


class Network(Protocol):
    """A teacher or a student.

    It normalises pixels its own way. `taps` names what is read (`contracts.taps`); work that neither the
    taps nor the logits need is not done. `inject` maps a block to the attention call whose q, k, bias and
    scale it uses. `clear` forgets what was read and injected: call it when the step's backward pass is over.
    """

    architecture: Architecture

    @property
    def module(self) -> nn.Module:
        """The bare network."""

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """Its transformer blocks, in order."""

    def __call__(
        self,
        pixels: Tensor,
        taps: frozenset[str] = frozenset(),
        inject: Mapping[int, AttentionCall] | None = None,
    ) -> Features:
        """Run on (B, C, H, W) in [0, 1]. A student always gives logits; a teacher those asked for."""

    def clear(self) -> None:
        """Forget what the last forward read and injected."""

    def weights(self) -> dict[str, Tensor]:
        """Give parameters and stored buffers under the names of timm's `VisionTransformer`, detached.

        A student has these names itself; a network of another library is renamed.

        Raises:
            BadInputError: it has parts that timm has no name for.
        """

    def parameters(self) -> Any:
        """Trainable tensors."""
