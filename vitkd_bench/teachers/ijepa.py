"""I-JEPA: hidden blocks of an image predicted as features of the same image (Assran et al., CVPR 2023).

A plain ViT without a class token: a native student of this family is the standard one. The position embedding
is fixed at pretraining, column before row; the released file holds it as a parameter like any other, and so
does the contract. The release's own resampling takes the first patch for a class token; timm's is used.
"""

from collections.abc import Mapping
from typing import Any

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import IMAGENET_PIXELS, Architecture, Teacher
from vitkd_bench.teachers._released import (
    CROP_256,
    FACEBOOK,
    IMAGENET_1K,
    accuracy,
    from_release,
    renamed,
    vit,
)

ENCODER = (
    "the weights are those under target_encoder, which the paper evaluates (appendix A.1); timm and the "
    "hub's conversion take the context encoder, under encoder"
)

TEACHERS.register(
    Teacher(
        name="ijepa/h14",
        title="I-JEPA ViT-H/14",
        family="ijepa",
        group="reserve",
        paper="arXiv:2301.08243",
        objective="features of hidden blocks predicted from the rest of the image",
        licence="CC-BY-NC-4.0",
        architecture=vit("h", patch=14, class_token=False),
        pixels=IMAGENET_PIXELS,
        interpolation="bilinear",  # torchvision's default, which `src/transforms.py:42` leaves
        crop=CROP_256,
        data="ImageNet-1k, no labels, 300 epochs",
        seen=IMAGENET_1K,
        parameters=630_762_240,
        accuracy=(accuracy("linear", 79.3, "arXiv:2301.08243 table 1"),),
        sources=(
            from_release(
                "vit_huge_patch14_gap_224",
                f"{FACEBOOK}/ijepa/IN1K-vit.h.14-300e.pth.tar",
                "ijepa",
                differs=(ENCODER,),
            ),
        ),
        notes="Pooled is the mean of the patches after the last norm, as the paper evaluates it.",
    )
)


@TEACHERS.register_layout("ijepa")
def without_wrapper(
    tensors: Mapping[str, Any],
    architecture: Architecture,  # noqa: ARG001  (what every layout is told)
) -> dict[str, Any]:
    """Take the prefix off that training on several processes put before every name (`src/train.py:220`)."""
    return renamed(tensors, ((r"module\.(.+)", r"\1"),))
