"""Our own Vision Transformer: one module for students and micro teachers, built from an architecture."""

from __future__ import annotations

import torch
from timm.layers import PatchEmbed, calculate_drop_path_rates
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vitkd_bench.networks.blocks import Block
from vitkd_bench.networks.positions import fixed_position, position_length
from vitkd_bench.networks.rotary import embedding_of, rotary_embedding
from vitkd_bench.spec import Architecture


class ViT(nn.Module):
    """A ViT in stages: `embed`, `encode`, `pool`, `head`.

    Its parameters are named and shaped as in timm's `VisionTransformer(global_pool="avg")`; parts that only
    BEiT has are named as in timm's `Beit`. So a state dict of either loads, and one of timm's `Eva` where it
    keeps q, k and v in one matrix. The pooled representation is the mean over patch tokens, then `fc_norm`,
    for every family: one head for all (docs/protocol.md).

    `num_classes` 0 leaves out the head; `drop_path` is the rate of the last block, rising linearly from 0.
    Weights are those of torch's constructors: `initialise` gives them their law.

    `distillation` is None, or a module that a method has put there before training: its parameter `token`
    (D,) becomes one more token before the patches, and it is called with the logits (B, K) and the normalised
    last state (B, D) of that token to give the logits of the whole. `lift` is None, or a module that takes
    the patch tokens (B, P, D) after the blocks to the width in which they are pooled (`networks.widening`).
    With `by_class_token` the class token stands for the image in place of the mean of its patches.
    """

    def __init__(self, architecture: Architecture, num_classes: int = 0, drop_path: float = 0.0) -> None:
        super().__init__()
        self.architecture = architecture
        size, components = architecture.size, architecture.components
        self.patch_embed = PatchEmbed(
            architecture.image_size,
            architecture.patch,
            architecture.channels,
            size.width,
            bias=components.patch_bias,
        )
        self.cls_token = _token(1, size.width) if architecture.class_token else None
        self.reg_token = _token(architecture.registers, size.width) if architecture.registers else None
        self.pos_embed: Tensor | None
        if components.position == "learned":
            self.pos_embed = _token(position_length(architecture), size.width)
        elif components.position == "fixed":
            self.register_buffer("pos_embed", fixed_position(architecture))
        else:
            self.pos_embed = None
        self.norm_pre = (
            nn.LayerNorm(size.width, eps=components.norm_eps) if components.norm_pre else nn.Identity()
        )
        self.rope = rotary_embedding(architecture)
        self.checkpointing = False
        rates = calculate_drop_path_rates(drop_path, size.depth)
        self.blocks = nn.ModuleList(Block(architecture, rate) for rate in rates)
        self.fc_norm: nn.Module = nn.LayerNorm(size.width, eps=components.norm_eps)
        self.head = nn.Linear(size.width, num_classes) if num_classes else nn.Identity()
        self.distillation: nn.Module | None = None
        self.lift: nn.Module | None = None
        self.by_class_token = False

    @property
    def prefix(self) -> int:
        """Tokens before the patches: class token, registers, distillation token."""
        return self.architecture.prefix + (self.distillation is not None)

    def embed(self, pixels: Tensor) -> Tensor:
        """Turn normalised pixels (B, C, H, W) into tokens (B, N, D): class token, registers, patches.

        A distillation token stands before the patches and has no position of its own beside its value.
        """
        patches: Tensor = self.patch_embed(pixels)
        prefix = [t.expand(len(patches), -1, -1) for t in (self.cls_token, self.reg_token) if t is not None]
        if self.pos_embed is None:
            tokens = torch.cat([*prefix, patches], dim=1)
        elif self.architecture.components.position_on_prefix:
            tokens = torch.cat([*prefix, patches], dim=1) + self.pos_embed
        else:
            tokens = torch.cat([*prefix, patches + self.pos_embed], dim=1)
        if self.distillation is not None:
            token = self.distillation.get_parameter("token").expand(len(patches), 1, -1)
            before = self.architecture.prefix
            tokens = torch.cat([tokens[:, :before], token, tokens[:, before:]], dim=1)
        normed: Tensor = self.norm_pre(tokens)
        return normed

    def encode(self, tokens: Tensor) -> Tensor:
        """Run all blocks on tokens (B, N, D); any subset of them where attention itself knows no position.

        Raises:
            BadInputError: a relative position bias or a rotary embedding, and not all tokens.
        """
        rope = embedding_of(self.rope, tokens.shape[1] - self.prefix)
        for block in self.blocks:
            if self.checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, rope, use_reentrant=False)
            else:
                tokens = block(tokens, rope)
        return tokens

    def pool(self, tokens: Tensor) -> Tensor:
        """Average the patch tokens of (B, N, D) and normalise: (B, D), or of the width of `lift`."""
        read = tokens[:, :1] if self.by_class_token else tokens[:, self.prefix :]
        if self.lift is not None:
            read = self.lift(read)
        pooled: Tensor = self.fc_norm(read.mean(dim=1))
        return pooled

    def forward(self, pixels: Tensor) -> Tensor:
        """Give logits (B, K) of normalised pixels, or the pooled representation (B, D) without a head."""
        tokens = self.encode(self.embed(pixels))
        logits: Tensor = self.head(self.pool(tokens))
        if self.distillation is not None:
            logits = self.distillation(logits, self.fc_norm(tokens[:, self.architecture.prefix]))
        return logits


def _token(count: int, width: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(1, count, width))
