"""SigLIP 2: images and texts paired by a sigmoid loss, with self-distillation (Tschannen et al., 2025).

It has no class token, and GELU in its tanh form (big_vision `models/vit.py`), which timm and open_clip by
themselves compute exactly. Its attention pooling stands after the blocks and is no part of a native student:
it routes no tokens within the network.
"""

from functools import partial

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import HALF_PIXELS, Components, Teacher
from vitkd_bench.teachers._micro import DIGIT_NAMES, made_from_digits, micro_architecture, two_sizes
from vitkd_bench.teachers._released import (
    EXACT,
    accuracy,
    from_open_clip,
    from_timm,
    from_transformers,
    vit,
)

README = "google-research/big_vision@0127fb6 big_vision/configs/proj/image_text/README_siglip2.md"
TEXTS = ("text.*", "logit_scale", "logit_bias")
HUB_TEXTS = ("text_model.*", "logit_scale", "logit_bias")
PARTS = Components(activation="gelu_tanh")

siglip2 = partial(Teacher, family="siglip2", outcome="transfers", paper="arXiv:2502.14786")

TEACHERS.register(
    *two_sizes(
        siglip2(
            name="micro/siglip2",
            title="SigLIP 2, micro",
            objective="sigmoid loss of images and class names",
            architecture=micro_architecture(PARTS, class_token=False),
            head=DIGIT_NAMES,
            notes="Ten class names stand for captions; pooling is the mean of patches, no attention pool.",
            **made_from_digits("pretrain_siglip2"),
        )
    )
)

tanh_in_timm = partial(from_timm, arguments={"act_layer": "gelu_tanh"}, differs=(EXACT,))
released = partial(
    siglip2,
    objective="sigmoid loss of images and captions, captioning, self-distillation, masked patches",
    licence="Apache-2.0 (code), CC-BY-4.0 (other material)",
    version=2,  # 1 had exact GELU
    pixels=HALF_PIXELS,
    crop=1.0,
    data="WebLI, images with captions",
    seen=("webli",),
    notes="Images are squeezed to the square at evaluation. Parameters include the attention pool.",
)

TEACHERS.register(
    released(
        name="siglip2/b16",
        title="SigLIP 2 ViT-B/16",
        group="published",
        certainty="B",
        architecture=vit("b", PARTS, class_token=False),
        parameters=92_884_224,
        text_encoder="open_clip:ViT-B-16-SigLIP2/webli",
        accuracy=(accuracy("zero_shot", 78.2, README),),
        sources=(
            tanh_in_timm("vit_base_patch16_siglip_224.v2_webli"),
            from_open_clip("ViT-B-16-SigLIP2", "timm/ViT-B-16-SigLIP2", TEXTS, differs=(EXACT,)),
            from_transformers("SiglipVisionModel", "google/siglip2-base-patch16-224", HUB_TEXTS),
        ),
    ),
    released(
        name="siglip2/l16",
        title="SigLIP 2 ViT-L/16",
        group="reserve",
        architecture=vit("l", PARTS, image_size=256, class_token=False),
        parameters=315_956_224,
        text_encoder="open_clip:ViT-L-16-SigLIP2-256/webli",
        accuracy=(accuracy("zero_shot", 82.5, README, image_size=256),),
        sources=(
            tanh_in_timm("vit_large_patch16_siglip_256.v2_webli"),
            from_open_clip("ViT-L-16-SigLIP2-256", "timm/ViT-L-16-SigLIP2-256", TEXTS, differs=(EXACT,)),
            from_transformers("SiglipVisionModel", "google/siglip2-large-patch16-256", HUB_TEXTS),
        ),
    ),
)
