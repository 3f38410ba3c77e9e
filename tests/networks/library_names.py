"""One network's tensors in the names under which other libraries store them, beside what else they store."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import open_clip
import torch
import transformers
from torch import Tensor

from vitkd_bench.spec import Teacher

State = dict[str, Tensor]

QKV = re.compile(r"(.*\.attn)\.qkv\.(weight|bias)")
HUB_VIT = {  # google/vit-base-patch16-224, facebook/dino-vits16: names as they are stored
    r"^(cls_token|reg_token)": r"embeddings.\1",
    r"^pos_embed": "embeddings.position_embeddings",
    r"patch_embed\.proj": "embeddings.patch_embeddings.projection",
    r"\.attn\.q\b": ".attention.attention.query",
    r"\.attn\.k\b": ".attention.attention.key",
    r"\.attn\.v\b": ".attention.attention.value",
    r"\.attn\.proj": ".attention.output.dense",
    r"^blocks": "encoder.layer",
    r"^norm": "layernorm",
    r"reg_token": "register_tokens",
}
VIT_MLP = {
    r"\.norm1": ".layernorm_before",
    r"\.norm2": ".layernorm_after",
    r"\.mlp\.fc1": ".intermediate.dense",
    r"\.mlp\.fc2": ".output.dense",
}
DINOV2_SCALE = {r"ls1\.gamma": "layer_scale1.lambda1", r"ls2\.gamma": "layer_scale2.lambda1"}
BEIT = {
    r"gamma_([12])": r"lambda_\1",
    r"attn\.relative": "attention.attention.relative_position_bias.relative",
    r"attn\.([qv])_bias": r"attn.\1.bias",
    r"^fc_norm": "pooler.layernorm",
}
HUB_CLIP = {  # openai/clip-vit-base-patch16, google/siglip2-base-patch16-224
    r"^cls_token": "vision_model.embeddings.class_embedding",
    r"^pos_embed": "vision_model.embeddings.position_embedding.weight",
    r"patch_embed\.proj": "vision_model.embeddings.patch_embedding",
    r"\.attn\.([qkv])\b": r".self_attn.\1_proj",
    r"\.attn\.proj": ".self_attn.out_proj",
    r"\.norm([12])": r".layer_norm\1",
    r"^blocks": "vision_model.encoder.layers",
    r"^norm_pre": "vision_model.pre_layrnorm",
    r"^norm\b": "vision_model.post_layernorm",
}
OPENAI = {
    r"^patch_embed\.proj": "visual.conv1",
    r"^norm_pre": "visual.ln_pre",
    r"^norm\b": "visual.ln_post",
    r"^blocks": "visual.transformer.resblocks",
    r"\.norm([12])": r".ln_\1",
    r"attn\.qkv\.(weight|bias)": r"attn.in_proj_\1",
    r"attn\.proj": "attn.out_proj",
    r"mlp\.fc1": "mlp.c_fc",
    r"mlp\.fc2": "mlp.c_proj",
}


def renamed(state: Mapping[str, Tensor], rules: Mapping[str, str]) -> State:
    """Split packed projections, then rename by regular expressions, each in turn."""
    split: State = {}
    for name, tensor in state.items():
        packed = QKV.fullmatch(name)
        if packed:
            for letter, third in zip("qkv", tensor.chunk(3), strict=True):
                split[f"{packed[1]}.{letter}.{packed[2]}"] = third
        else:
            split[name] = tensor
    return by_rules(split, rules)


def by_rules(state: Mapping[str, Tensor], rules: Mapping[str, str]) -> State:
    """Rename by regular expressions, each in turn."""
    named = dict(state)
    for pattern, new in rules.items():
        named = {re.sub(pattern, new, name): tensor for name, tensor in named.items()}
    return named


def under(prefix: str, state: Mapping[str, Tensor]) -> State:
    """Names as of a model with a head: the network under `prefix`, the head called classifier."""
    return {re.sub(rf"^{prefix}\.head\.", "classifier.", f"{prefix}.{n}"): t for n, t in state.items()}


@cache
def beside(built: Callable[[], Any], own: str) -> tuple[str, ...]:
    """Names that a whole model stores and that do not begin with `own`."""
    with torch.device("meta"):
        return tuple(name for name in built().state_dict() if not name.startswith(own))


def empty(*names: str) -> State:
    """Tensors whose values nobody reads."""
    return {name: torch.zeros(1) for name in names}


def whole_hub_clip() -> Any:
    """A CLIP of transformers with its text tower."""
    return transformers.CLIPModel(transformers.CLIPConfig())


def whole_hub_siglip() -> Any:
    """A SigLIP of transformers with its text tower."""
    return transformers.SiglipModel(transformers.SiglipConfig())


def whole_hub_mae() -> Any:
    """MAE of transformers with its decoder."""
    return transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig())


def whole_open_clip(model: str = "ViT-B-16-quickgelu") -> Any:
    """A CLIP of open_clip with its text tower."""
    return open_clip.model.CLIP(**open_clip.get_model_config(model))


def whole_open_clip_siglip() -> Any:
    """A SigLIP of open_clip with its text tower."""
    config = open_clip.get_model_config("ViT-B-16-SigLIP2")
    config.pop("custom_text")
    return open_clip.model.CustomTextCLIP(**config)


def dino(state: State) -> State:
    """As ViTModel's checkpoints: an untrained pooler beside the weights."""
    return renamed(state, HUB_VIT | VIT_MLP) | empty("pooler.dense.weight", "pooler.dense.bias")


def deit(state: State) -> State:
    """As checkpoints of ViTForImageClassification."""
    return under("vit", renamed(state, HUB_VIT | VIT_MLP))


def mae(state: State) -> State:
    """As checkpoints of ViTMAEForPreTraining."""
    encoder = {f"vit.{name}": tensor for name, tensor in renamed(state, HUB_VIT | VIT_MLP).items()}
    return encoder | empty(*beside(whole_hub_mae, "vit."))


def dinov2(state: State) -> State:
    """As DINOv2's checkpoints, a mask token among them; with registers, the class token's slot apart."""
    named = renamed(state, HUB_VIT | DINOV2_SCALE) | empty("embeddings.mask_token")
    if "embeddings.register_tokens" in named:  # timm has added that slot to the class token
        token, table = (named[f"embeddings.{name}"] for name in ("cls_token", "position_embeddings"))
        slot = torch.full_like(token, 0.25)
        named["embeddings.cls_token"] = token - slot
        named["embeddings.position_embeddings"] = torch.cat([slot, table], dim=1)
    return named


def beit(state: State) -> State:
    """As BEiT's checkpoints, whose mean of patches is normed in the pooler, and which hold the index."""
    named = under("beit", renamed(state, BEIT | HUB_VIT | VIT_MLP))
    table = ".relative_position_bias_table"
    indices = [name.replace(table, ".relative_position_index") for name in named if name.endswith(table)]
    return named | empty(*indices)


def clip(state: State) -> State:
    """As a whole CLIPModel: text tower, projections, and the indices that older versions stored."""
    named = renamed(state, HUB_CLIP) | empty(*beside(whole_hub_clip, "vision_model."))
    named["vision_model.embeddings.class_embedding"] = state["cls_token"][0, 0]
    named["vision_model.embeddings.position_embedding.weight"] = state["pos_embed"][0]
    towers = ("vision_model", "text_model")
    return named | empty(*(f"{tower}.embeddings.position_ids" for tower in towers))


def siglip(state: State) -> State:
    """As a whole SiglipModel; its pooling head packs query, key and value."""
    pool = {name: tensor for name, tensor in state.items() if name.startswith("attn_pool")}
    named = renamed({k: v for k, v in state.items() if k not in pool}, HUB_CLIP)
    named["vision_model.embeddings.position_embedding.weight"] = state["pos_embed"][0]
    head = "vision_model.head."
    for kind in ("weight", "bias"):
        packed = torch.cat([pool[f"attn_pool.q.{kind}"], pool[f"attn_pool.kv.{kind}"]])
        named[f"{head}attention.in_proj_{kind}"] = packed
        named[f"{head}attention.out_proj.{kind}"] = pool[f"attn_pool.proj.{kind}"]
        named[f"{head}layernorm.{kind}"] = pool[f"attn_pool.norm.{kind}"]
        for layer in ("fc1", "fc2"):
            named[f"{head}mlp.{layer}.{kind}"] = pool[f"attn_pool.mlp.{layer}.{kind}"]
    named[f"{head}probe"] = pool["attn_pool.latent"]
    return named | empty(*beside(whole_hub_siglip, "vision_model."))


def openai(state: State) -> State:
    """As a whole CLIP of open_clip, OpenAI's names: no batch dimension on the tables, and a projection."""
    named = by_rules(state, OPENAI)
    named["visual.class_embedding"] = named.pop("cls_token")[0, 0]
    named["visual.positional_embedding"] = named.pop("pos_embed")[0]
    return named | empty(*beside(whole_open_clip, "visual."), "visual.proj")


def in_a_tower(state: State) -> State:
    """As a whole SigLIP of open_clip, which wraps timm's network."""
    trunk = {f"visual.trunk.{name}": tensor for name, tensor in state.items()}
    return trunk | empty(*beside(whole_open_clip_siglip, "visual."))


CONVERTED: dict[tuple[str, str], Callable[[State], State]] = {
    ("beit", "transformers"): beit,
    ("clip", "open_clip"): openai,
    ("clip", "transformers"): clip,
    ("deit", "transformers"): deit,
    ("dino", "transformers"): dino,
    ("dinov2", "transformers"): dinov2,
    ("dinov2_reg", "transformers"): dinov2,
    ("mae", "transformers"): mae,
    ("siglip", "open_clip"): in_a_tower,
    ("siglip", "transformers"): siglip,
    ("siglip2", "open_clip"): in_a_tower,
    ("siglip2", "transformers"): siglip,
}


def as_stored(teacher: Teacher, backend: str, state: State) -> State:
    """Give tensors that have timm's names those of the file that a backend's source of `teacher` is for."""
    return state if backend == "timm" else CONVERTED[teacher.family, backend](state)
