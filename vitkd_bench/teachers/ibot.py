"""iBOT: self-distillation of views and of masked tokens (Zhou et al., ICLR 2022).

A plain ViT: a native student of this family is the standard one.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import IMAGENET_PIXELS, Architecture, Teacher
from vitkd_bench.teachers._micro import made_from_digits, micro_architecture, two_sizes
from vitkd_bench.teachers._released import CROP_256, IMAGENET_1K, accuracy, from_release, renamed, vit

README = "bytedance/ibot@da316d8 README.md"
ARCHIVE = "https://lf3-nlp-opensource.bytetos.com/obj/nlp-opensource/archive/2022/ibot"
UNUSED = ("head.*", "module.head.*", "masked_embed", "*backbone.masked_embed")

ibot = partial(
    Teacher,
    family="ibot",
    outcome="transfers",
    paper="arXiv:2111.07832",
    objective="self-distillation of views and of masked tokens",
)

TEACHERS.register(
    *two_sizes(
        ibot(
            name="micro/ibot",
            title="iBOT, micro",
            architecture=micro_architecture(),
            notes="The averaged network is kept, as published.",
            **made_from_digits("pretrain_ibot"),
        )
    )
)

released = partial(
    ibot,
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
        name="ibot/s",
        title="iBOT ViT-S/16",
        certainty="B",
        architecture=vit("s"),
        parameters=21_665_664,
        accuracy=(
            accuracy("knn", 75.2, README),
            accuracy("linear", 77.9, README),
            accuracy("finetuned", 82.3, README),
        ),
        sources=(
            from_release(
                "vit_small_patch16_224", f"{ARCHIVE}/vits_16/checkpoint_teacher.pth", "ibot", unused=UNUSED
            ),
        ),
    ),
    released(
        name="ibot/b",
        title="iBOT ViT-B/16",
        certainty="C",
        architecture=vit("b"),
        parameters=85_798_656,
        accuracy=(
            accuracy("knn", 77.1, README),
            accuracy("linear", 79.5, README),
            accuracy("finetuned", 84.0, README),
        ),
        sources=(
            from_release(
                "vit_base_patch16_224", f"{ARCHIVE}/vitb_16/checkpoint_teacher.pth", "ibot", unused=UNUSED
            ),
        ),
        notes="Masked in blocks; the release has another, vitb_16_rand_mask, masked at random.",
    ),
)


@TEACHERS.register_layout("ibot")
def backbone(
    tensors: Mapping[str, Any],
    architecture: Architecture,  # noqa: ARG001  (what every layout is told)
) -> dict[str, Any]:
    """Take the backbone out of a checkpoint of bytedance/ibot (`extract_backbone_weights.py`).

    The released teachers are backbones already; full checkpoints have `backbone.` before it, and a student's
    `module.` before that.
    """
    return renamed(tensors, ((r"(?:module\.)?backbone\.(.+)", r"\1"),))
