"""DINOv2: self-distillation of views and masked tokens on curated images (Oquab et al., TMLR 2024).

Native component: layer scale from 1e-5, the value of its training (`ssl_default_config.yaml:75`); the hub's
builder and transformers' configuration say 1.0, which is not what was trained.
"""

from functools import partial

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import IMAGENET_PIXELS, SIZES, Architecture, Components, Teacher, WeightSource
from vitkd_bench.teachers._micro import made_from_digits, micro_architecture

LAYER_SCALE = Components(layer_scale=1e-5)

dinov2 = partial(
    Teacher,
    family="dinov2",
    outcome="fails",
    paper="arXiv:2304.07193",
    objective="self-distillation of views and of masked tokens, spread features",
)

TEACHERS.register(
    dinov2(
        name="micro/dinov2",
        title="DINOv2, micro",
        architecture=micro_architecture(LAYER_SCALE),
        notes="Trained directly; the released small models are distilled from a giant one.",
        **made_from_digits("pretrain_dinov2"),
    ),
    dinov2(
        name="dinov2/s14",
        title="DINOv2 ViT-S/14",
        group="published",
        licence="Apache-2.0",
        architecture=Architecture(image_size=224, patch=14, size=SIZES["s"], components=LAYER_SCALE),
        pixels=IMAGENET_PIXELS,
        sources=(WeightSource(backend="timm", model="vit_small_patch14_dinov2.lvd142m"),),
        seen=("lvd142m", "imagenet1k", "tiny_imagenet"),
        notes="Trained at 518 px; used at 224 px, its position embedding resampled timm's way.",
    ),
)
