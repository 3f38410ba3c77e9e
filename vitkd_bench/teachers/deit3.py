"""DeiT III: ViTs trained on ImageNet-1k labels, with a recipe of their own (Touvron et al., ECCV 2022).

Native components: layer scale from 1e-4 (`models_v2.py:182`; timm builds 1e-6), and no position for the class
token. Label-trained and with layer scale: the family that tells the two apart.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import IMAGENET_PIXELS, Architecture, Components, Teacher
from vitkd_bench.teachers._released import (
    FACEBOOK,
    IMAGENET_1K,
    IMAGENET_LABELS,
    TIMM_RESULTS,
    accuracy,
    from_release,
    from_timm,
    renamed,
    vit,
)

README = "facebookresearch/deit@7e160fe README_revenge.md"
PARTS = Components(layer_scale=1e-4, position_on_prefix=False)

released = partial(
    Teacher,
    family="deit3",
    group="reserve",
    paper="arXiv:2204.07118",
    objective="labels, from scratch, binary cross-entropy",
    licence="Apache-2.0",
    pixels=IMAGENET_PIXELS,
    head=IMAGENET_LABELS,
    data="ImageNet-1k, labels",
    seen=IMAGENET_1K,
)

TEACHERS.register(
    released(
        name="deit3/s",
        title="DeiT III ViT-S/16",
        architecture=vit("s", PARTS),
        parameters=21_674_496,
        accuracy=(accuracy("top1", 81.4, README), accuracy("top1", 81.382, TIMM_RESULTS)),
        sources=(
            from_timm("deit3_small_patch16_224.fb_in1k"),
            from_release("deit3_small_patch16_224", f"{FACEBOOK}/deit/deit_3_small_224_1k.pth", "deit3"),
        ),
    ),
    released(
        name="deit3/b",
        title="DeiT III ViT-B/16",
        architecture=vit("b", PARTS),
        parameters=85_816_320,
        accuracy=(accuracy("top1", 83.8, README), accuracy("top1", 83.8, TIMM_RESULTS)),
        sources=(
            from_timm("deit3_base_patch16_224.fb_in1k"),
            from_release("deit3_base_patch16_224", f"{FACEBOOK}/deit/deit_3_base_224_1k.pth", "deit3"),
        ),
    ),
)


@TEACHERS.register_layout("deit3")
def layer_scales(
    tensors: Mapping[str, Any],
    architecture: Architecture,  # noqa: ARG001  (what every layout is told)
) -> dict[str, Any]:
    """Name the layer scales of facebookresearch/deit (`models_v2.py`) as timm does."""
    return renamed(tensors, ((r"(blocks\.\d+)\.gamma_([12])", r"\1.ls\2.gamma"),))
