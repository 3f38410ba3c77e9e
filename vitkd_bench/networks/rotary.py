"""Rotary position: queries and keys of patches turned by angles that depend on where the patch is."""

from __future__ import annotations

import torch
from timm.layers import RotaryEmbeddingCat, RotaryEmbeddingDinoV3, apply_rot_embed_cat
from torch import Tensor, nn

from vitkd_bench.spec import Architecture, BadInputError

EVA02_GRID = 16  # patches a side of EVA-02's own training, 224 over 14: other grids are scaled to it
DINOV3_BASE = 100.0  # the longest period over the shortest (facebookresearch/dinov3, `RopePositionEmbedding`)


def rotary_embedding(architecture: Architecture) -> RotaryEmbeddingCat | RotaryEmbeddingDinoV3 | None:
    """Build the embedding that `components.rope` names; it has no weights and no entry in a state dict.

    `eva02`: row and column each turn one half of a head's channels, in pairs side by side, at frequencies
    from 1 down to 1/10000 (baaivision/EVA `EVA-02/asuka/rope.py`). `dinov3`: coordinates in [-1, 1], pairs
    half a head apart; the shifts and rescalings that DINOv3 draws in training are left out.

    Raises:
        BadInputError: the width of a head is not divisible by 4.
    """
    form, size = architecture.components.rope, architecture.size
    if form == "none":
        return None
    head = size.width // size.heads
    if head % 4:
        raise BadInputError(f"components.rope: a rotary embedding needs heads of 4 k channels, got {head}")
    grid = [architecture.grid] * 2
    if form == "dinov3":
        return RotaryEmbeddingDinoV3(head, temperature=DINOV3_BASE, feat_shape=grid, rotate_half=True)
    return RotaryEmbeddingCat(head, in_pixels=False, feat_shape=grid, ref_feat_shape=[EVA02_GRID] * 2)


def embedding_of(rope: nn.Module | None, patches: int) -> Tensor | None:
    """Give the angles of all patches, (L, 2 d) sines then cosines; None without a rotary embedding.

    Raises:
        BadInputError: another number of patches than the embedding is for.
    """
    if not isinstance(rope, RotaryEmbeddingCat | RotaryEmbeddingDinoV3):
        return None
    embedding: Tensor = rope.get_embed()
    if len(embedding) != patches:
        raise BadInputError(
            f"components.rope: {patches} patches where the embedding is for {len(embedding)}; "
            "tokens can be left out only without it"
        )
    return embedding


def turned(tensor: Tensor, embedding: Tensor, *, halves: bool) -> Tensor:
    """Turn the patches of queries or keys (B, H, N, d), which come last; tokens before them stay as they are.

    `halves` pairs channel i with i + d/2, otherwise with its neighbour.
    """
    prefix = tensor.shape[2] - len(embedding)
    patches = apply_rot_embed_cat(tensor[:, :, prefix:], embedding, half=halves)
    return torch.cat([tensor[:, :, :prefix], patches.to(tensor.dtype)], dim=2)
