"""MAE: masked patches reconstructed as pixels (He et al., CVPR 2022).

A plain ViT as released for fine-tuning: a native student of this family is the standard one. At pretraining
the position embedding is fixed; the released file holds it as a parameter like any other, and so does the
contract.
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

README, PROBE = "facebookresearch/mae@efb2a80 README.md", "facebookresearch/mae@efb2a80 FINETUNE.md"
DECODER = ("decoder_*", "mask_token")
POOLING = "fine-tuning replaces this last norm by one after the mean of patches (models_vit.py)"

mae = partial(Teacher, family="mae", outcome="transfers", paper="arXiv:2111.06377", objective="masked pixels")

TEACHERS.register(
    *two_sizes(
        mae(
            name="micro/mae",
            title="MAE, micro",
            architecture=micro_architecture(),
            notes="The position embedding is learned from the start, where MAE's is fixed at pretraining.",
            **made_from_digits("pretrain_mae", "micro_pretrain_masked"),
        )
    )
)

released = partial(
    mae,
    licence="CC-BY-NC-4.0",
    pixels=IMAGENET_PIXELS,
    crop=CROP_256,
    data="ImageNet-1k, no labels, 1600 epochs",
    seen=IMAGENET_1K,
)

TEACHERS.register(
    released(
        name="mae/b",
        title="MAE ViT-B/16",
        group="published",
        certainty="B",
        architecture=vit("b"),
        parameters=85_798_656,
        accuracy=(accuracy("linear", 67.8, PROBE), accuracy("finetuned", 83.6, README)),
        sources=(
            from_timm("vit_base_patch16_224.mae", differs=(POOLING,)),
            from_transformers(
                "ViTModel", "facebook/vit-mae-base", ("decoder.*",), "pytorch_model.bin", differs=(EPSILON,)
            ),
            from_release(
                "vit_base_patch16_224", f"{FACEBOOK}/mae/pretrain/mae_pretrain_vit_base.pth", unused=DECODER
            ),
        ),
    ),
    released(
        name="mae/l",
        title="MAE ViT-L/16",
        group="reserve",
        architecture=vit("l"),
        parameters=303_301_632,
        accuracy=(accuracy("linear", 75.8, PROBE), accuracy("finetuned", 85.9, README)),
        sources=(
            from_timm("vit_large_patch16_224.mae", differs=(POOLING,)),
            from_transformers(
                "ViTModel", "facebook/vit-mae-large", ("decoder.*",), "pytorch_model.bin", differs=(EPSILON,)
            ),
            from_release(
                "vit_large_patch16_224", f"{FACEBOOK}/mae/pretrain/mae_pretrain_vit_large.pth", unused=DECODER
            ),
        ),
    ),
)
