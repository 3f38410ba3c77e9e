"""DINOv2 with registers: four tokens more, for the network's own use (Darcet et al., ICLR 2024).

Native component: layer scale from 1e-5, as DINOv2. The registers are token interface, so that a standard
student has them too. Neither they nor, in timm's form, the class token have a position: timm adds the class
token's slot to the class token.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import IMAGENET_PIXELS, Architecture, Components, Teacher
from vitkd_bench.teachers._micro import made_from_digits, micro_architecture, two_sizes
from vitkd_bench.teachers._released import (
    CROP_256,
    FACEBOOK,
    IMAGENET_21K,
    accuracy,
    from_release,
    from_timm,
    from_transformers,
    renamed,
    vit,
)

README = "facebookresearch/dinov2@b8931f7 README.md"
PARTS = Components(layer_scale=1e-5, position_on_prefix=False)
MASK = ("mask_token", "embeddings.mask_token")
SCALE = "the hub's configuration starts layer scale at 1.0, training at 1e-5"

dinov2_reg = partial(
    Teacher,
    family="dinov2_reg",
    outcome="fails",
    paper="arXiv:2309.16588",
    objective="self-distillation of views and of masked tokens, spread features",
)

TEACHERS.register(
    *two_sizes(
        dinov2_reg(
            name="micro/dinov2_reg",
            title="DINOv2 with registers, micro",
            architecture=micro_architecture(PARTS, registers=4),
            notes="As micro/dinov2, with four registers.",
            **made_from_digits("pretrain_dinov2"),
        )
    )
)

released = partial(
    dinov2_reg,
    licence="Apache-2.0",
    pixels=IMAGENET_PIXELS,
    crop=CROP_256,
    native_size=518,
    position_interpolation="official",  # with registers: to the size itself, antialiased (`hub/backbones.py`)
    data="LVD-142M, no labels; distilled from the giant model",
    seen=("lvd142m", *IMAGENET_21K),
    notes="Trained at 518 px, used at 224 px, its positions resampled with antialiasing, as released.",
)

TEACHERS.register(
    released(
        name="dinov2_reg/s14",
        title="DINOv2 ViT-S/14 with registers",
        group="published",
        certainty="A",
        architecture=vit("s", PARTS, patch=14, registers=4),
        parameters=21_629_952,
        accuracy=(accuracy("knn", 79.1, README), accuracy("linear", 80.9, README)),
        sources=(
            from_timm("vit_small_patch14_reg4_dinov2.lvd142m"),
            from_transformers(
                "Dinov2WithRegistersModel", "facebook/dinov2-with-registers-small", MASK, differs=(SCALE,)
            ),
            from_release(
                "vit_small_patch14_reg4_dinov2",
                f"{FACEBOOK}/dinov2/dinov2_vits14/dinov2_vits14_reg4_pretrain.pth",
                "dinov2_reg",
                unused=MASK,
            ),
        ),
    ),
    released(
        name="dinov2_reg/b14",
        title="DINOv2 ViT-B/14 with registers",
        group="published",
        certainty="C",
        architecture=vit("b", PARTS, patch=14, registers=4),
        parameters=85_727_232,
        accuracy=(accuracy("knn", 82.0, README), accuracy("linear", 84.6, README)),
        sources=(
            from_timm("vit_base_patch14_reg4_dinov2.lvd142m"),
            from_transformers(
                "Dinov2WithRegistersModel", "facebook/dinov2-with-registers-base", MASK, differs=(SCALE,)
            ),
            from_release(
                "vit_base_patch14_reg4_dinov2",
                f"{FACEBOOK}/dinov2/dinov2_vitb14/dinov2_vitb14_reg4_pretrain.pth",
                "dinov2_reg",
                unused=MASK,
            ),
        ),
    ),
    released(
        name="dinov2_reg/l14",
        title="DINOv2 ViT-L/14 with registers",
        group="reserve",
        architecture=vit("l", PARTS, patch=14, registers=4),
        parameters=303_230_976,
        accuracy=(accuracy("knn", 83.8, README), accuracy("linear", 86.7, README)),
        sources=(
            from_timm("vit_large_patch14_reg4_dinov2.lvd142m"),
            from_transformers(
                "Dinov2WithRegistersModel", "facebook/dinov2-with-registers-large", MASK, differs=(SCALE,)
            ),
            from_release(
                "vit_large_patch14_reg4_dinov2",
                f"{FACEBOOK}/dinov2/dinov2_vitl14/dinov2_vitl14_reg4_pretrain.pth",
                "dinov2_reg",
                unused=MASK,
            ),
        ),
    ),
)


BOTH = ("cls_token", "pos_embed")


@TEACHERS.register_layout("dinov2_reg")
def position_into_class_token(tensors: Mapping[str, Any], architecture: Architecture) -> dict[str, Any]:
    """Name the registers as timm does, and add the class token's position to the class token.

    The release adds positions to class token and patches before it puts the registers between them
    (facebookresearch/dinov2 `models/vision_transformer.py`, `prepare_tokens_with_masks`).
    """
    found = renamed(tensors, (("register_tokens", "reg_token"),))
    tables = [found[name] for name in BOTH if name in found]
    fitting = [table for table in tables if tuple(table.shape[::2]) == (1, architecture.size.width)]
    if len(fitting) == len(BOTH):  # else loading says what is missing or misshapen
        token, position = fitting
        found["cls_token"] = token + position[:, :1]
        found["pos_embed"] = position[:, 1:]
    return found
