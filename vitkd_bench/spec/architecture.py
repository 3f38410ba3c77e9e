"""What a Vision Transformer is built of: token interface, size and components."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from vitkd_bench.spec.base import Frozen

PLAIN_LAYER_SCALE_INIT = 1e-5  # timm's default, for a family that trained none


class Size(Frozen):
    """Width in channels, depth in blocks, attention heads, and the MLP's width over the model's.

    The MLP's width is that of what its last layer reads: in a gated one, after gating.
    """

    width: int = Field(gt=0)
    depth: int = Field(gt=0)
    heads: int = Field(gt=0)
    mlp_ratio: float = Field(default=4.0, gt=0)

    @model_validator(mode="after")
    def _divisible(self) -> Size:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by {self.heads} heads")
        return self


SIZES = {
    "micro_small": Size(width=32, depth=3, heads=2),
    "micro": Size(width=48, depth=4, heads=3),
    "micro_large": Size(width=64, depth=6, heads=4),
    "ti": Size(width=192, depth=12, heads=3),
    "s": Size(width=384, depth=12, heads=6),
    "b": Size(width=768, depth=12, heads=12),
    "l": Size(width=1024, depth=24, heads=16),
    "h": Size(width=1280, depth=32, heads=16),
}
"""Named sizes, as in `standard@ti`."""


class Components(Frozen):
    """The parts in which teachers differ; the defaults are those of a plain ViT.

    `None` as `layer_scale` means that the part is absent; a number is its initial value.
    `relative_position_bias` is one table a block. `position` is the absolute position embedding, `rope` a
    rotary one of queries and keys in the form of one family (`networks.rotary`), `qk_norm` a layer norm of
    these within each head. `mlp` is two linear layers (`plain`) or gated by a third, whose activation is SiLU
    (`swiglu`) or the model's own (`glu`).
    """

    layer_scale: float | None = Field(default=None, gt=0)
    norm_pre: bool = False
    relative_position_bias: bool = False
    position: Literal["learned", "fixed", "none"] = "learned"
    position_on_prefix: bool = True
    qkv_bias: Literal["full", "qv", "none"] = "full"
    activation: Literal["gelu", "gelu_tanh", "quick_gelu"] = "gelu"
    patch_bias: bool = True
    norm_eps: float = Field(default=1e-6, gt=0)
    rope: Literal["none", "eva02", "dinov3"] = "none"
    qk_norm: bool = False
    mlp: Literal["plain", "swiglu", "glu"] = "plain"

    def present(self) -> tuple[str, ...]:
        """Names of the components in which this model differs from a plain ViT, in order."""
        plain = Components()
        return tuple(name for name in type(self).model_fields if getattr(self, name) != getattr(plain, name))


NAMED_COMPONENTS = ("layer_scale", "norm_pre", "relative_position_bias")
"""The three that the paper names (arXiv:2605.07191, abstract); `native_min` takes these."""


class InitialValues(Frozen):
    """What departs from the common law of initial values and changes no part of the network.

    Both concern the last layer of each branch, `attn.proj` and `mlp.fc2`. `folded_layer_scale` multiplies
    its weights and biases: a network without layer scale then starts as the function that the same one with
    a layer scale of this value starts as. `scaled_by_depth` divides its weights by sqrt(2 l) in block l,
    counted from 1, as BEiT does (microsoft/unilm `beit2/modeling_finetune.py`, `fix_init_weight`).
    """

    folded_layer_scale: float | None = Field(default=None, gt=0)
    scaled_by_depth: bool = False


class Architecture(Frozen):
    """All that is needed to build a ViT, without weights.

    `image_size` and `patch` are in pixels. The tokens are the class token if there is one, the registers,
    then the patches row by row. `initial` is for students: a teacher's weights are not drawn.
    """

    channels: int = Field(default=3, gt=0)
    image_size: int = Field(gt=0)
    patch: int = Field(gt=0)
    class_token: bool = True
    registers: int = Field(default=0, ge=0)
    size: Size
    components: Components = Components()
    initial: InitialValues = InitialValues()

    @model_validator(mode="after")
    def _grid_fits(self) -> Architecture:
        if self.image_size % self.patch:
            raise ValueError(f"image size {self.image_size} is not a multiple of the patch {self.patch}")
        return self

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch

    @property
    def prefix(self) -> int:
        """Tokens before the patches: class token and registers."""
        return int(self.class_token) + self.registers

    @property
    def tokens(self) -> int:
        """All tokens that attend to each other."""
        return self.prefix + self.grid**2

    def with_(self, **changes: object) -> Architecture:
        """Copy this architecture with some fields changed, checked again."""
        return Architecture.model_validate({**dict(self), **changes})
