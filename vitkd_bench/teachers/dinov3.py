"""DINOv3: self-distillation at scale, with a rotary position embedding (Siméoni et al., 2025).

Native components: layer scale from 1e-5 (`ssl_default_config.yaml:88`), a rotary position embedding and no
absolute one, no bias of queries, keys and values in timm's form, norm epsilon 1e-5. Four registers.
"""

from functools import partial

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import IMAGENET_PIXELS, Components, Teacher
from vitkd_bench.teachers._released import CROP_256, IMAGENET_21K, accuracy, from_timm, vit

PARTS = Components(layer_scale=1e-5, position="none", qkv_bias="none", norm_eps=1e-5, rope="dinov3")
BIAS = "the release's biases of query and value are all zero; timm's model of this name has none"
PERIODS = "the release rounds the periods of its rotary embedding to bfloat16; timm computes them in float32"
CARD = "facebookresearch/dinov3@6876159 MODEL_CARD.md"
TOKEN = {"global_pool": "token"}  # the class token, as the release; timm's own choice is the mean of patches

released = partial(
    Teacher,
    family="dinov3",
    group="reserve",
    paper="arXiv:2508.10104",
    objective="self-distillation of views and of masked tokens, anchored gram matrices",
    licence="DINOv3 License",
    pixels=IMAGENET_PIXELS,
    crop=CROP_256,
    native_size=256,
    data="LVD-1689M, no labels; distilled from the 7B model",
    seen=("lvd1689m", *IMAGENET_21K),
    notes="Published on the corrected labels of ImageNet (ReaL) alone, for these sizes.",
)

TEACHERS.register(
    released(
        name="dinov3/s16",
        title="DINOv3 ViT-S/16",
        architecture=vit("s", PARTS, registers=4),
        parameters=21_586_944,
        accuracy=(accuracy("linear", 87.0, CARD, dataset="imagenet1k_real"),),
        sources=(from_timm("vit_small_patch16_dinov3.lvd1689m", arguments=TOKEN, differs=(BIAS, PERIODS)),),
    ),
    released(
        name="dinov3/b16",
        title="DINOv3 ViT-B/16",
        architecture=vit("b", PARTS, registers=4),
        parameters=85_641_216,
        accuracy=(accuracy("linear", 89.3, CARD, dataset="imagenet1k_real"),),
        sources=(from_timm("vit_base_patch16_dinov3.lvd1689m", arguments=TOKEN, differs=(BIAS, PERIODS)),),
    ),
)
