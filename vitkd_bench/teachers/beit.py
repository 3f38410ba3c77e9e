"""BEiT: masked patches predicted as tokens of a tokenizer (Bao et al., ICLR 2022).

The architecture is BEiT v2's. The released weights with a head were fine-tuned on the labels of
ImageNet-21k and then of ImageNet-1k.
"""

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import HALF_PIXELS, Components, Teacher
from vitkd_bench.teachers._released import (
    IMAGENET_21K,
    IMAGENET_LABELS,
    TIMM_RESULTS,
    accuracy,
    from_timm,
    from_transformers,
    vit,
)

TEACHERS.register(
    Teacher(
        name="beit/b",
        title="BEiT ViT-B/16",
        family="beit",
        group="reserve",
        paper="arXiv:2106.08254",
        objective="masked tokens of a tokenizer, then labels",
        licence="MIT",
        architecture=vit(
            "b", Components(layer_scale=0.1, relative_position_bias=True, position="none", qkv_bias="qv")
        ),
        pixels=HALF_PIXELS,
        head=IMAGENET_LABELS,
        data="ImageNet-21k, no labels; then its labels; then those of ImageNet-1k",
        seen=IMAGENET_21K,
        parameters=85_761_984,
        accuracy=(accuracy("top1", 85.238, TIMM_RESULTS),),
        sources=(
            from_timm("beit_base_patch16_224.in22k_ft_in22k_in1k"),
            from_transformers(
                "BeitForImageClassification",
                "microsoft/beit-base-patch16-224",
                ("*.relative_position_index",),
                "pytorch_model.bin",
            ),
        ),
    )
)
