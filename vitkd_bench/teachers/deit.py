"""DeiT: ViTs trained on ImageNet-1k labels alone (Touvron et al., ICML 2021).

A plain ViT: a native student of this family is the standard one. The models with a distillation token are not
part of the family, since they have a second prefix token and a second head.
"""

from functools import partial

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import IMAGENET_PIXELS, SIZES, Architecture, Head, Teacher, WeightSource
from vitkd_bench.teachers._micro import DIGIT_LABELS, made_from_digits, micro_architecture

deit = partial(
    Teacher, family="deit", outcome="transfers", paper="arXiv:2012.12877", objective="labels, from scratch"
)

TEACHERS.register(
    deit(
        name="micro/deit",
        title="DeiT, micro",
        architecture=micro_architecture(),
        head=DIGIT_LABELS,
        notes="No mixup, erasing or repeated augmentation: 8 x 8 pixels leave little to cut.",
        **made_from_digits("pretrain_labels"),
    )
)

released = partial(
    deit,
    licence="Apache-2.0",
    pixels=IMAGENET_PIXELS,
    head=Head(kind="labels", label_space="imagenet1k", num_classes=1000),
)

TEACHERS.register(
    released(
        name="deit/ti",
        title="DeiT-Ti/16",
        group="reserve",
        architecture=Architecture(image_size=224, patch=16, size=SIZES["ti"]),
        sources=(WeightSource(backend="timm", model="deit_tiny_patch16_224.fb_in1k"),),
        seen=("imagenet1k", "tiny_imagenet"),
        notes="ImageNet-1k top-1 72.2 % (release).",
    ),
    released(
        name="deit/s",
        title="DeiT-S/16",
        group="published",
        architecture=Architecture(image_size=224, patch=16, size=SIZES["s"]),
        sources=(WeightSource(backend="timm", model="deit_small_patch16_224.fb_in1k"),),
        seen=("imagenet1k", "tiny_imagenet"),
        notes="ImageNet-1k top-1 79.9 % (release), 79.856 % (timm, 224 px).",
    ),
    released(
        name="deit/b",
        title="DeiT-B/16",
        group="published",
        architecture=Architecture(image_size=224, patch=16, size=SIZES["b"]),
        sources=(WeightSource(backend="timm", model="deit_base_patch16_224.fb_in1k"),),
        seen=("imagenet1k", "tiny_imagenet"),
        notes="ImageNet-1k top-1 81.8 % (release), 81.980 % (timm, 224 px).",
    ),
)
