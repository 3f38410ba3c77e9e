"""DeiT: ViTs trained on ImageNet-1k labels alone (Touvron et al., ICML 2021).

A plain ViT: a native student of this family is the standard one. The models with a distillation token are not
part of the family, since they have a second prefix token and a second head.
"""

from functools import partial

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import IMAGENET_PIXELS, Teacher
from vitkd_bench.teachers._micro import DIGIT_LABELS, made_from_digits, micro_architecture, two_sizes
from vitkd_bench.teachers._released import (
    EPSILON,
    FACEBOOK,
    IMAGENET_1K,
    IMAGENET_LABELS,
    TIMM_RESULTS,
    accuracy,
    from_release,
    from_timm,
    from_transformers,
    vit,
)

README = "facebookresearch/deit@7e160fe README_deit.md"
labelled = partial(
    from_transformers, "ViTForImageClassification", file="pytorch_model.bin", differs=(EPSILON,)
)

deit = partial(
    Teacher, family="deit", outcome="transfers", paper="arXiv:2012.12877", objective="labels, from scratch"
)

TEACHERS.register(
    *two_sizes(
        deit(
            name="micro/deit",
            title="DeiT, micro",
            architecture=micro_architecture(),
            head=DIGIT_LABELS,
            notes="No mixup, erasing or repeated augmentation: 8 x 8 pixels leave little to cut.",
            **made_from_digits("pretrain_labels"),
        )
    )
)

released = partial(
    deit,
    licence="Apache-2.0",
    pixels=IMAGENET_PIXELS,
    head=IMAGENET_LABELS,
    data="ImageNet-1k, labels",
    seen=IMAGENET_1K,
)

TEACHERS.register(
    released(
        name="deit/ti",
        title="DeiT-Ti/16",
        group="reserve",
        architecture=vit("ti"),
        parameters=5_524_416,
        accuracy=(accuracy("top1", 72.2, README), accuracy("top1", 72.19, TIMM_RESULTS)),
        sources=(
            from_timm("deit_tiny_patch16_224.fb_in1k"),
            labelled("facebook/deit-tiny-patch16-224"),
            from_release("deit_tiny_patch16_224", f"{FACEBOOK}/deit/deit_tiny_patch16_224-a1311bcf.pth"),
        ),
    ),
    released(
        name="deit/s",
        title="DeiT-S/16",
        group="published",
        certainty="A",
        architecture=vit("s"),
        parameters=21_665_664,
        accuracy=(accuracy("top1", 79.9, README), accuracy("top1", 79.856, TIMM_RESULTS)),
        sources=(
            from_timm("deit_small_patch16_224.fb_in1k"),
            labelled("facebook/deit-small-patch16-224"),
            from_release("deit_small_patch16_224", f"{FACEBOOK}/deit/deit_small_patch16_224-cd65a155.pth"),
        ),
    ),
    released(
        name="deit/b",
        title="DeiT-B/16",
        group="published",
        certainty="C",
        architecture=vit("b"),
        parameters=85_798_656,
        accuracy=(accuracy("top1", 81.8, README), accuracy("top1", 81.98, TIMM_RESULTS)),
        sources=(
            from_timm("deit_base_patch16_224.fb_in1k"),
            labelled("facebook/deit-base-patch16-224"),
            from_release("deit_base_patch16_224", f"{FACEBOOK}/deit/deit_base_patch16_224-b5f2ef4d.pth"),
        ),
    ),
)
