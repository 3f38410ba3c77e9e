"""DINO: self-distillation between views, without labels (Caron et al., ICCV 2021).

A plain ViT: a native student of this family is the standard one.
"""

from functools import partial

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import IMAGENET_PIXELS, Teacher
from vitkd_bench.teachers._micro import made_from_digits, micro_architecture, two_sizes
from vitkd_bench.teachers._released import (
    CROP_256,
    EPSILON,
    FACEBOOK,
    IMAGENET_1K,
    accuracy,
    from_release,
    from_timm,
    from_transformers,
    vit,
)

README = "facebookresearch/dino@7c446df README.md"

dino = partial(
    Teacher,
    family="dino",
    outcome="transfers",
    paper="arXiv:2104.14294",
    objective="self-distillation of views",
)

TEACHERS.register(
    *two_sizes(
        dino(
            name="micro/dino",
            title="DINO, micro",
            architecture=micro_architecture(),
            notes="Views differ by small rotations, contrast and noise; the averaged network is kept.",
            **made_from_digits("pretrain_dino"),
        )
    )
)

released = partial(
    dino,
    group="published",
    licence="Apache-2.0",
    pixels=IMAGENET_PIXELS,
    crop=CROP_256,
    position_interpolation="official",  # `interpolate_pos_encoding`; at 224 px nothing moves
    version=2,  # 1 resampled positions timm's way
    data="ImageNet-1k, no labels",
    seen=IMAGENET_1K,
)

TEACHERS.register(
    released(
        name="dino/s",
        title="DINO ViT-S/16",
        certainty="A",
        architecture=vit("s"),
        parameters=21_665_664,
        accuracy=(accuracy("knn", 74.5, README), accuracy("linear", 77.0, README)),
        sources=(
            from_timm("vit_small_patch16_224.dino"),
            from_transformers(
                "ViTModel", "facebook/dino-vits16", ("pooler.*",), "pytorch_model.bin", differs=(EPSILON,)
            ),
            from_release(
                "vit_small_patch16_224",
                f"{FACEBOOK}/dino/dino_deitsmall16_pretrain/dino_deitsmall16_pretrain.pth",
            ),
        ),
    ),
    released(
        name="dino/b",
        title="DINO ViT-B/16",
        certainty="C",
        architecture=vit("b"),
        parameters=85_798_656,
        accuracy=(accuracy("knn", 76.1, README), accuracy("linear", 78.2, README)),
        sources=(
            from_timm("vit_base_patch16_224.dino"),
            from_transformers(
                "ViTModel", "facebook/dino-vitb16", ("pooler.*",), "pytorch_model.bin", differs=(EPSILON,)
            ),
            from_release(
                "vit_base_patch16_224",
                f"{FACEBOOK}/dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth",
            ),
        ),
    ),
)
