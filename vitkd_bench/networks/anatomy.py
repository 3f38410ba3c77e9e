"""Where the parts of a Vision Transformer stand in the classes of each library.

No library is imported to know its classes: they go by their package and their name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from vitkd_bench.spec import BadInputError


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Dotted paths to the parts of a network; None where its class has no such part.

    `blocks` lists the transformer blocks, which are of the class `block`; `attention`, `norm` (the first one)
    and `mlp` stand in each block. `patch` is the convolution that makes tokens, `image_size` its side in
    pixels or both sides, `position` the absolute embedding. `head` takes the pooled representation as its
    input; without one, that representation is what the network gives. `rotary` is the rotary embedding where
    it does not stand beside the blocks. `beyond` says in one clause which part of every network of its class
    no component describes.
    """

    blocks: str
    block: str
    attention: str
    norm: str
    mlp: str
    patch: str
    image_size: str
    class_token: str | None
    position: str
    norm_pre: str | None
    registers: str | None = None
    head: str | None = None
    rotary: str | None = None
    beyond: str | None = None

    def within(self, root: str) -> Anatomy:
        """Give the same paths as they are seen from the owner of `root`; what is in a block stays."""
        tokens = ("patch", "image_size", "class_token", "position", "norm_pre", "registers", "rotary")
        outer = ("blocks", "head", *tokens)
        moved = {name: f"{root}.{path}" for name in outer if (path := getattr(self, name)) is not None}
        return replace(self, **moved)

    def blocks_of(self, module: nn.Module) -> Sequence[nn.Module]:
        """List the transformer blocks of `module`, in order."""
        return list(module.get_submodule(self.blocks).children())

    def head_of(self, module: nn.Module) -> nn.Module | None:
        """Give the module whose input is the pooled representation, if there is one."""
        return None if self.head is None else module.get_submodule(self.head)


_TIMM = Anatomy(
    blocks="blocks",
    block="Block",
    attention="attn",
    norm="norm1",
    mlp="mlp",
    patch="patch_embed.proj",
    image_size="patch_embed.img_size",
    class_token="cls_token",
    registers="reg_token",
    position="pos_embed",
    norm_pre="norm_pre",
    head="head",
)
_OPEN_CLIP = Anatomy(
    blocks="transformer.resblocks",
    block="ResidualAttentionBlock",
    attention="attn",
    norm="ln_1",
    mlp="mlp",
    patch="conv1",
    image_size="image_size",
    class_token="class_embedding",
    position="positional_embedding",
    norm_pre="ln_pre",
)
_VIT = Anatomy(
    blocks="layers",
    block="ViTLayer",
    attention="attention",
    norm="layernorm_before",
    mlp="mlp",
    patch="embeddings.patch_embeddings.projection",
    image_size="config.image_size",
    class_token="embeddings.cls_token",
    position="embeddings.position_embeddings",
    norm_pre=None,
)
_CLIP = Anatomy(
    blocks="encoder.layers",
    block="CLIPEncoderLayer",
    attention="self_attn",
    norm="layer_norm1",
    mlp="mlp",
    patch="embeddings.patch_embedding",
    image_size="config.image_size",
    class_token="embeddings.class_embedding",
    position="embeddings.position_embedding.weight",
    norm_pre="pre_layrnorm",
)
_DINOV2 = replace(_VIT, blocks="encoder.layer", block="Dinov2Layer", norm="norm1")
_KNOWN = {
    ("vitkd_bench", "ViT"): _TIMM,
    ("timm", "VisionTransformer"): _TIMM,
    ("timm", "Beit"): _TIMM,
    ("timm", "Eva"): replace(_TIMM, block="EvaBlock"),
    ("open_clip", "VisionTransformer"): _OPEN_CLIP,
    ("transformers", "ViTModel"): _VIT,
    # the distillation token of DeiT is one more that no pixel makes, as a register is
    ("transformers", "DeiTModel"): replace(
        _VIT, block="DeiTLayer", registers="embeddings.distillation_token"
    ),
    ("transformers", "ViTMSNModel"): replace(_VIT, block="ViTMSNLayer"),
    ("transformers", "BeitModel"): replace(_VIT, block="BeitLayer"),
    ("transformers", "CLIPVisionModel"): _CLIP,
    ("transformers", "SiglipVisionModel"): replace(
        _CLIP, block="SiglipEncoderLayer", class_token=None, norm_pre=None
    ),
    ("transformers", "Dinov2Model"): _DINOV2,
    ("transformers", "Dinov2WithRegistersModel"): replace(
        _DINOV2, block="Dinov2WithRegistersLayer", registers="embeddings.register_tokens"
    ),
}
_PACKED = "images come as packed sequences of patches, in any shape of grid"
_READ = {  # classes whose parts are known, but whose pooling and names of weights are not
    ("timm", "VisionTransformerDistilled"): replace(_TIMM, registers="dist_token"),
    ("timm", "VisionTransformerRelPos"): replace(
        _TIMM,
        block="RelPosBlock",
        beyond="attention takes its bias by relative position from a module of its own",
    ),
    ("timm", "VisionTransformerSAM"): replace(
        _TIMM, beyond="most blocks attend within windows, with relative positions in rows and columns apart"
    ),
    ("timm", "NaFlexVit"): replace(_TIMM, patch="embeds.proj", beyond=_PACKED),
    ("transformers", "IJepaModel"): replace(_VIT, block="IJepaLayer", class_token=None),
    ("transformers", "DINOv3ViTModel"): replace(
        _VIT,
        blocks="model.layer",
        block="DINOv3ViTLayer",
        norm="norm1",
        patch="embeddings.patch_embeddings",
        registers="embeddings.register_tokens",
        rotary="rope_embeddings",
    ),
    ("transformers", "Data2VecVisionModel"): replace(
        _VIT,
        blocks="encoder.layer",
        block="Data2VecVisionLayer",
        attention="attention.attention",
        mlp="intermediate",
    ),
    ("transformers", "Siglip2VisionModel"): replace(_CLIP, block="Siglip2EncoderLayer", beyond=_PACKED),
}
_INNER = (
    "visual",
    "trunk",
    "vision_model",
    "vit",
    "deit",
    "beit",
    "dinov2",
    "dinov2_with_registers",
    "ijepa",
    "data2vec_vision",
)
_HEADS = {"TimmModel": "head"}  # open_clip's tower around a network of timm


def anatomy_of(module: nn.Module) -> Anatomy:
    """Find the parts of a ViT of ours, timm, open_clip or transformers, or of a model around one.

    Raises:
        BadInputError: neither a known ViT nor a model that holds one; or one that can only be described.
    """
    return _found(module, _KNOWN)


def anatomy_to_read(module: nn.Module) -> Anatomy:
    """Find the parts as `anatomy_of` does, also in classes that are described here but are not run.

    Raises:
        BadInputError: neither a known ViT nor a model that holds one.
    """
    return _found(module, _KNOWN | _READ)


def _found(module: nn.Module, classes: Mapping[tuple[str, str], Anatomy]) -> Anatomy:
    kind = type(module)
    for base in kind.__mro__ if kind.__module__.startswith("vitkd_bench") else (kind,):
        named = base.__module__.partition(".")[0], base.__name__
        if named in classes:
            return classes[named]
        if named in _READ:
            raise BadInputError(
                f"{kind.__name__} is described here but not run, since its pooling and the names of its "
                "weights are not known here: name another build of the same network, if a library has one"
            )
    for name in _INNER:
        inner = getattr(module, name, None)
        if isinstance(inner, nn.Module):
            head = _HEADS.get(kind.__name__, "classifier")
            there = isinstance(getattr(module, head, None), nn.Module)
            return replace(_found(inner, classes).within(name), head=head if there else None)
    known = ", ".join(f"{name} ({library})" for library, name in classes if library != "vitkd_bench")
    raise BadInputError(f"{kind.__name__} is no Vision Transformer that is known here: these are {known}")


def part(owner: object, path: str | None) -> Any:
    """Follow a dotted path of attributes; None if there is no path, or if it ends on the way."""
    if path is None:
        return None
    for name in path.split("."):
        owner = getattr(owner, name, None)
    return owner


def pooled_and_logits(output: Any, *, head: bool) -> tuple[Tensor | None, Tensor | None]:
    """Take (pooled, logits) from what a network gave, a tensor or an output of transformers.

    With a `head` the output holds logits, and pooled is what the head was given. Without one a tensor is the
    pooled representation; an output has it as `pooler_output`, or it is its class token after the last norm.
    """
    if isinstance(output, Tensor):
        return (None, output) if head else (output, None)
    if head:
        return None, output.logits
    pooled = getattr(output, "pooler_output", None)
    return output.last_hidden_state[:, 0] if pooled is None else pooled, None
