"""DINOv2: self-distillation of views and masked tokens on curated images (Oquab et al., TMLR 2024).

Native component: layer scale from 1e-5, the value of its training (`ssl_default_config.yaml:75`); the hub's
builder and transformers' configuration say 1.0, which is not what was trained. The release resamples its
position embedding without antialiasing, to 16.1 of 37 rows where 16 are asked for (`hub/backbones.py`).
"""

from functools import partial

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import IMAGENET_PIXELS, Components, Teacher
from vitkd_bench.teachers._micro import made_from_digits, micro_architecture, two_sizes
from vitkd_bench.teachers._released import (
    CROP_256,
    FACEBOOK,
    IMAGENET_21K,
    RESAMPLED,
    accuracy,
    from_release,
    from_timm,
    from_transformers,
    vit,
)

README = "facebookresearch/dinov2@b8931f7 README.md"
LAYER_SCALE = Components(layer_scale=1e-5)
MASK = ("mask_token", "embeddings.mask_token")
SCALE = "the hub's configuration starts layer scale at 1.0, training at 1e-5"

dinov2 = partial(
    Teacher,
    family="dinov2",
    outcome="fails",
    paper="arXiv:2304.07193",
    objective="self-distillation of views and of masked tokens, spread features",
)

TEACHERS.register(
    *two_sizes(
        dinov2(
            name="micro/dinov2",
            title="DINOv2, micro",
            architecture=micro_architecture(LAYER_SCALE),
            notes="Trained directly; the released small models are distilled from a giant one.",
            **made_from_digits("pretrain_dinov2"),
        )
    )
)

released = partial(
    dinov2,
    licence="Apache-2.0",
    pixels=IMAGENET_PIXELS,
    crop=CROP_256,
    native_size=518,
    position_interpolation="official",
    version=2,  # 1 resampled positions timm's way
    data="LVD-142M, no labels; distilled from the giant model",
    seen=("lvd142m", *IMAGENET_21K),
    notes="Trained at 518 px, used at 224 px. LVD-142M was curated around ImageNet and fine-grained sets.",
)

TEACHERS.register(
    released(
        name="dinov2/s14",
        title="DINOv2 ViT-S/14",
        group="published",
        certainty="A",
        architecture=vit("s", LAYER_SCALE, patch=14),
        parameters=21_628_800,
        accuracy=(accuracy("knn", 79.0, README), accuracy("linear", 81.1, README)),
        sources=(
            from_timm("vit_small_patch14_dinov2.lvd142m", differs=(RESAMPLED,)),
            from_transformers("Dinov2Model", "facebook/dinov2-small", MASK, differs=(SCALE,)),
            from_release(
                "vit_small_patch14_dinov2",
                f"{FACEBOOK}/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth",
                unused=MASK,
            ),
        ),
    ),
    released(
        name="dinov2/b14",
        title="DINOv2 ViT-B/14",
        group="published",
        certainty="C",
        architecture=vit("b", LAYER_SCALE, patch=14),
        parameters=85_724_928,
        accuracy=(accuracy("knn", 82.1, README), accuracy("linear", 84.5, README)),
        sources=(
            from_timm("vit_base_patch14_dinov2.lvd142m", differs=(RESAMPLED,)),
            from_transformers("Dinov2Model", "facebook/dinov2-base", MASK, differs=(SCALE,)),
            from_release(
                "vit_base_patch14_dinov2",
                f"{FACEBOOK}/dinov2/dinov2_vitb14/dinov2_vitb14_pretrain.pth",
                unused=MASK,
            ),
        ),
    ),
    released(
        name="dinov2/l14",
        title="DINOv2 ViT-L/14",
        group="reserve",
        architecture=vit("l", LAYER_SCALE, patch=14),
        parameters=303_227_904,
        accuracy=(accuracy("knn", 83.5, README), accuracy("linear", 86.3, README)),
        sources=(
            from_timm("vit_large_patch14_dinov2.lvd142m", differs=(RESAMPLED,)),
            from_transformers("Dinov2Model", "facebook/dinov2-large", MASK, differs=(SCALE,)),
            from_release(
                "vit_large_patch14_dinov2",
                f"{FACEBOOK}/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
                unused=MASK,
            ),
        ),
    ),
)
