"""CLIP: images and texts contrasted (Radford et al., ICML 2021).

Native components: a norm before the blocks, QuickGELU, a patch projection without bias, norm epsilon 1e-5
(openai/CLIP `clip/model.py`). The teachers are the image towers without their projection to the texts' space.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import OPENAI_PIXELS, Architecture, Components, Teacher
from vitkd_bench.teachers._micro import DIGIT_NAMES, made_from_digits, micro_architecture, two_sizes
from vitkd_bench.teachers._released import (
    accuracy,
    from_open_clip,
    from_release,
    from_timm,
    from_transformers,
    renamed,
    vit,
)

RESULTS = "mlfoundations/open_clip@89fb801 docs/openclip_results.csv"
PARTS = Components(norm_pre=True, activation="quick_gelu", patch_bias=False, norm_eps=1e-5)
TEXTS = (
    "transformer.*",
    "token_embedding.*",
    "positional_embedding",
    "ln_final.*",
    "text_projection",
    "logit_scale",
    "visual.proj",
)
SETTINGS = ("input_resolution", "context_length", "vocab_size")  # among the tensors of OpenAI's archives
HUB_TEXTS = (
    "text_model.*",
    "text_projection.*",
    "visual_projection.*",
    "logit_scale",
    "*.position_ids",
)
ARCHIVE = (
    "OpenAI's own file is a TorchScript archive, which holds code and is not opened: "
    "store its state dict and give that file"
)

clip = partial(
    Teacher,
    family="clip",
    outcome="fails",
    paper="arXiv:2103.00020",
)

TEACHERS.register(
    *two_sizes(
        clip(
            name="micro/clip",
            title="CLIP, micro",
            objective="contrast of images and class names",
            architecture=micro_architecture(PARTS),
            head=DIGIT_NAMES,
            notes="Ten class names stand for captions: images of one class in a batch share their text.",
            **made_from_digits("pretrain_clip"),
        )
    )
)

released = partial(
    clip,
    group="published",
    objective="contrast of images and their captions",
    licence="MIT",
    pixels=OPENAI_PIXELS,
    crop=1.0,
    data="400 million images with captions, from the web",
    seen=("wit400m",),
    notes="OpenAI's weights; the paper names neither patch size nor weights.",
)

TEACHERS.register(
    released(
        name="clip/b16",
        title="CLIP ViT-B/16",
        certainty="A",
        architecture=vit("b", PARTS),
        parameters=85_799_424,
        text_encoder="open_clip:ViT-B-16-quickgelu/openai",
        accuracy=(accuracy("zero_shot", 68.34, RESULTS),),
        sources=(
            from_timm("vit_base_patch16_clip_quickgelu_224.openai", "timm/vit_base_patch16_clip_224.openai"),
            from_open_clip("ViT-B-16-quickgelu", "timm/vit_base_patch16_clip_224.openai", TEXTS),
            from_transformers(
                "CLIPVisionModel", "openai/clip-vit-base-patch16", HUB_TEXTS, "pytorch_model.bin"
            ),
            from_release(
                "vit_base_patch16_clip_quickgelu_224",
                None,
                "clip",
                unused=(*TEXTS, *SETTINGS),
                differs=(ARCHIVE,),
            ),
        ),
    ),
    released(
        name="clip/l14",
        title="CLIP ViT-L/14",
        certainty="D",
        architecture=vit("l", PARTS, patch=14),
        parameters=303_179_776,
        text_encoder="open_clip:ViT-L-14-quickgelu/openai",
        accuracy=(accuracy("zero_shot", 75.54, RESULTS),),
        sources=(
            from_timm(
                "vit_large_patch14_clip_quickgelu_224.openai", "timm/vit_large_patch14_clip_224.openai"
            ),
            from_open_clip("ViT-L-14-quickgelu", "timm/vit_large_patch14_clip_224.openai", TEXTS),
            from_transformers(
                "CLIPVisionModel", "openai/clip-vit-large-patch14", HUB_TEXTS, "pytorch_model.bin"
            ),
            from_release(
                "vit_large_patch14_clip_quickgelu_224",
                None,
                "clip",
                unused=(*TEXTS, *SETTINGS),
                differs=(ARCHIVE,),
            ),
        ),
    ),
)

BLOCK = r"visual\.transformer\.resblocks\.(\d+)\."
RULES = (
    (r"visual\.class_embedding", "cls_token"),
    (r"visual\.positional_embedding", "pos_embed"),
    (r"visual\.conv1\.weight", "patch_embed.proj.weight"),
    (r"visual\.ln_pre\.(weight|bias)", r"norm_pre.\1"),
    (r"visual\.ln_post\.(weight|bias)", r"norm.\1"),
    (BLOCK + r"ln_([12])\.(weight|bias)", r"blocks.\1.norm\2.\3"),
    (BLOCK + r"attn\.in_proj_(weight|bias)", r"blocks.\1.attn.qkv.\2"),
    (BLOCK + r"attn\.out_proj\.(weight|bias)", r"blocks.\1.attn.proj.\2"),
    (BLOCK + r"mlp\.c_fc\.(weight|bias)", r"blocks.\1.mlp.fc1.\2"),
    (BLOCK + r"mlp\.c_proj\.(weight|bias)", r"blocks.\1.mlp.fc2.\2"),
)
BATCHED = ("cls_token", "pos_embed")  # 1 x N x D in timm


@TEACHERS.register_layout("clip")
def image_tower(tensors: Mapping[str, Any], architecture: Architecture) -> dict[str, Any]:
    """Rename the image tower of openai/CLIP (`clip/model.py`) to timm's names.

    The class embedding is stored as (D), the positions as (N, D).
    """
    found = renamed(tensors, RULES)
    width = architecture.size.width
    for name in BATCHED:
        if name in found and found[name].shape[-1] == width:
            found[name] = found[name].reshape(1, -1, width)
    return found
