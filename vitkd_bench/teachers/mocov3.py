"""MoCo v3: contrast of two views against a momentum encoder (Chen, Xie and He, ICCV 2021).

Its position embedding is the fixed 2D sin-cos one, with a zero slot for the class token (`vits.py:53-69`),
and its patch projection stays at its random start during pretraining. The released ViT-S has 12 heads of
width 32 where others have 6 of 64; at this size the micro teacher keeps the heads of its size.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import IMAGENET_PIXELS, Architecture, BadInputError, Components, Size, Teacher
from vitkd_bench.teachers._micro import made_from_digits, micro_architecture, two_sizes
from vitkd_bench.teachers._released import (
    CROP_256,
    FACEBOOK,
    IMAGENET_1K,
    accuracy,
    from_release,
    renamed,
    vit,
)

README = "facebookresearch/moco-v3@c349e6e README.md"
FIXED = Components(position="fixed")
HEADS = 12  # of every ViT of the release, and nothing in the file says so (`vits.py:115-127`)
UNUSED = ("module.momentum_encoder.*", "module.predictor.*", "module.base_encoder.head.*")

mocov3 = partial(
    Teacher,
    family="mocov3",
    outcome="transfers",
    paper="arXiv:2104.02057",
    objective="contrast of views, momentum encoder",
)

TEACHERS.register(
    *two_sizes(
        mocov3(
            name="micro/mocov3",
            title="MoCo v3, micro",
            architecture=micro_architecture(FIXED),
            notes="The outcome of this family is inferred by elimination: no text that was read names it.",
            **made_from_digits("pretrain_mocov3"),
        )
    )
)

released = partial(
    mocov3,
    group="published",
    certainty="C",
    licence="CC-BY-NC-4.0",
    pixels=IMAGENET_PIXELS,
    interpolation="bilinear",  # torchvision's default, which `main_lincls.py:290` leaves
    crop=CROP_256,
    data="ImageNet-1k, no labels",
    seen=IMAGENET_1K,
)

TEACHERS.register(
    released(
        name="mocov3/s",
        title="MoCo v3 ViT-S/16",
        architecture=vit("s", FIXED).with_(size=Size(width=384, depth=12, heads=HEADS)),
        parameters=21_665_664,
        accuracy=(accuracy("linear", 73.2, README), accuracy("finetuned", 81.4, README)),
        sources=(
            from_release(
                "vit_small_patch16_224",
                f"{FACEBOOK}/moco-v3/vit-s-300ep/vit-s-300ep.pth.tar",
                "mocov3",
                unused=UNUSED,
                arguments={"num_heads": HEADS},
            ),
        ),
        notes="12 heads of width 32: 6 heads would take the same weights and compute other attention.",
    ),
    released(
        name="mocov3/b",
        title="MoCo v3 ViT-B/16",
        architecture=vit("b", FIXED),
        parameters=85_798_656,
        accuracy=(accuracy("linear", 76.7, README), accuracy("finetuned", 83.2, README)),
        sources=(
            from_release(
                "vit_base_patch16_224",
                f"{FACEBOOK}/moco-v3/vit-b-300ep/vit-b-300ep.pth.tar",
                "mocov3",
                unused=UNUSED,
            ),
        ),
    ),
)


@TEACHERS.register_layout("mocov3")
def base_encoder(tensors: Mapping[str, Any], architecture: Architecture) -> dict[str, Any]:
    """Take the base encoder out of a checkpoint of facebookresearch/moco-v3 (`convert_to_deit.py`).

    Raises:
        BadInputError: an architecture of other than 12 heads, into which the weights would fit all the same.
    """
    if architecture.size.heads != HEADS:
        raise BadInputError(
            f"layout 'mocov3': size.heads: weights of MoCo v3 are made for {HEADS} heads at every width, not "
            f"{architecture.size.heads}; they would fit and mean something else"
        )
    return renamed(tensors, ((r"module\.base_encoder\.(.+)", r"\1"),))
