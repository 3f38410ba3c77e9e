"""EVA-02: masked patches predicted as features of EVA-CLIP (Fang et al., 2023).

Native components: a rotary position embedding beside the absolute one, a gated MLP two thirds as wide, no
bias of the keys. The base and large models have a norm within the MLP, for which there is no component: they
are no entries.
"""

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import OPENAI_PIXELS, Components, Size, Teacher
from vitkd_bench.teachers._released import IMAGENET_21K, accuracy, from_timm, vit

README = "baaivision/EVA@006ca79 EVA-02/asuka/README.md"
PARTS = Components(qkv_bias="qv", rope="eva02", mlp="swiglu")

TEACHERS.register(
    Teacher(
        name="eva02/s14",
        title="EVA-02 ViT-S/14",
        family="eva02",
        group="reserve",
        paper="arXiv:2303.11331",
        objective="masked features of EVA-CLIP",
        licence="MIT",
        architecture=vit("s", PARTS, patch=14).with_(
            size=Size(width=384, depth=12, heads=6, mlp_ratio=4 * 2 / 3)
        ),
        pixels=OPENAI_PIXELS,
        data="ImageNet-21k, no labels",
        seen=IMAGENET_21K,
        parameters=21_621_120,
        accuracy=(accuracy("finetuned", 85.8, README, image_size=336),),
        sources=(from_timm("eva02_small_patch14_224.mim_in22k"),),
    )
)
