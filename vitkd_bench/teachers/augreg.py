"""AugReg ViT: ViTs trained on ImageNet-21k labels with strong augmentation (Steiner et al., TMLR 2022).

A plain ViT: a native student of this family is the standard one. The official code computes GELU in its tanh
form, timm's conversion exactly; the contract says what timm builds.
"""

from functools import partial

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import HALF_PIXELS, SIZES, Architecture, Teacher, WeightSource
from vitkd_bench.teachers._micro import DIGIT_LABELS, made_from_digits, micro_architecture

augreg = partial(
    Teacher,
    family="augreg",
    outcome="transfers",
    paper="arXiv:2106.10270",
    objective="labels, strong augmentation and regularisation",
)

TEACHERS.register(
    augreg(
        name="micro/augreg",
        title="AugReg ViT, micro",
        architecture=micro_architecture(),
        head=DIGIT_LABELS,
        notes="DeiT's labels under a stronger recipe; there is no larger set of digits to start from.",
        **made_from_digits("pretrain_labels", recipe="micro_pretrain_strong"),
    ),
    augreg(
        name="augreg/ti",
        title="AugReg ViT-Ti/16",
        group="reserve",
        licence="Apache-2.0",
        architecture=Architecture(image_size=224, patch=16, size=SIZES["ti"]),
        pixels=HALF_PIXELS,
        sources=(WeightSource(backend="timm", model="vit_tiny_patch16_224.augreg_in21k_ft_in1k"),),
        seen=("imagenet21k", "imagenet1k", "tiny_imagenet"),
        notes="Contract without a head, for weights that have none; a head in the file is left aside.",
    ),
)
