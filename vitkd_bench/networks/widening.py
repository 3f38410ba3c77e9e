"""Students that end wider than they begin: lifted after their blocks, or in a wider last block.

The forms are those of arXiv:2511.15572, whose code is thy960112/From-Per-Image-Low-Rank-to-Encoding-Mismatch,
training/lift and training/widelast.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitkd_bench.networks.blocks import Block
from vitkd_bench.networks.initialise import LawName, initialise
from vitkd_bench.networks.vit import ViT
from vitkd_bench.spec import BadInputError, Size


class Widening(nn.Module):
    """Brings tokens to another width: a linear map without bias, then a layer norm of each token."""

    def __init__(self, width: int, wider: int, eps: float) -> None:
        super().__init__()
        self.projection = nn.Linear(width, wider, bias=False)
        self.norm = nn.LayerNorm(wider, eps=eps)

    def forward(self, tokens: Tensor) -> Tensor:
        """Take tokens (B, N, D) to (B, N, E)."""
        wider: Tensor = self.norm(self.projection(tokens))
        return wider


def lift(vit: ViT, width: int, seed: int, law: LawName) -> None:
    """Let `vit` pool its patch tokens in `width` channels, where each has passed a `Widening`.

    The head is a new one of that width; nothing is normalised after pooling, as in the published form. What
    is new is drawn from `seed` by `law`.
    """
    with torch.random.fork_rng(devices=[]):
        vit.lift = Widening(vit.architecture.size.width, width, vit.architecture.components.norm_eps)
        _new_end(vit, width, nn.Identity())
    _draw(vit, seed, law, "lift")


def widen_last_block(vit: ViT, width: int, seed: int, law: LawName) -> None:
    """Replace the last block of `vit` by one of `width` channels, before which all tokens pass a `Widening`.

    Its heads have the dimension of the other blocks' and so are more; what follows has its width too. What is
    new is drawn from `seed` by `law`.

    Raises:
        BadInputError: heads of that dimension do not fit into `width`.
    """
    size, eps = vit.architecture.size, vit.architecture.components.norm_eps
    each = size.width // size.heads
    if width % each:
        raise BadInputError(f"a last block {width} wide has no whole number of heads of dimension {each}")
    wide = Size(width=width, depth=size.depth, heads=width // each, mlp_ratio=size.mlp_ratio)
    before = vit.blocks[-1]
    with torch.random.fork_rng(devices=[]):
        block = Block(vit.architecture.with_(size=wide))
        block.widening = Widening(size.width, width, eps)
        _new_end(vit, width, nn.LayerNorm(width, eps=eps))
    block.drop_path1, block.drop_path2 = before.drop_path1, before.drop_path2
    vit.blocks[-1] = block
    _draw(vit, seed, law, f"blocks.{size.depth - 1}")


def _new_end(vit: ViT, width: int, norm: nn.Module) -> None:
    vit.fc_norm = norm
    vit.head = nn.Linear(width, len(vit.get_parameter("head.weight")))


def _draw(vit: ViT, seed: int, law: LawName, part: str) -> None:
    """Draw what is new, and put it where the rest is."""
    device = vit.patch_embed.proj.weight.device
    initialise(vit, seed, law, (part, "fc_norm", "head"))
    vit.to(device)
