"""AugReg ViT: ViTs trained on ImageNet-21k labels with strong augmentation (Steiner et al., TMLR 2022).

A plain ViT: a native student of this family is the standard one. The official code computes GELU in its tanh
form, timm's conversion exactly; the contract says what timm builds. The checkpoints are those that were then
fine-tuned on ImageNet-1k at 224 pixels, for the sake of their head.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from vitkd_bench.registry import TEACHERS
from vitkd_bench.registry.placing import placed
from vitkd_bench.spec import HALF_PIXELS, Architecture, BadInputError, Teacher, WeightSource
from vitkd_bench.teachers._micro import DIGIT_LABELS, made_from_digits, micro_architecture, two_sizes
from vitkd_bench.teachers._released import (
    IMAGENET_21K,
    IMAGENET_LABELS,
    TANH,
    TIMM_RESULTS,
    accuracy,
    from_release,
    from_timm,
    renamed,
    vit,
)

BUCKET = "https://storage.googleapis.com/vit_models/augreg"

augreg = partial(
    Teacher,
    family="augreg",
    outcome="transfers",
    paper="arXiv:2106.10270",
    objective="labels, strong augmentation and regularisation",
)

TEACHERS.register(
    *two_sizes(
        augreg(
            name="micro/augreg",
            title="AugReg ViT, micro",
            architecture=micro_architecture(),
            head=DIGIT_LABELS,
            notes="DeiT's labels under a stronger recipe; there is no larger set of digits to start from.",
            **made_from_digits("pretrain_labels", recipe="micro_pretrain_strong"),
        )
    )
)

released = partial(
    augreg,
    licence="Apache-2.0",
    pixels=HALF_PIXELS,
    head=IMAGENET_LABELS,
    data="ImageNet-21k, labels; then ImageNet-1k, labels",
    seen=IMAGENET_21K,
    notes="The release squeezes images to 224 x 224 pixels at evaluation; the figure is timm's, of a crop.",
)

TEACHERS.register(
    released(
        name="augreg/ti",
        title="AugReg ViT-Ti/16",
        group="reserve",
        architecture=vit("ti"),
        parameters=5_524_416,
        version=2,  # 1 had no head
        accuracy=(accuracy("top1", 75.452, TIMM_RESULTS),),
        sources=(
            from_timm("vit_tiny_patch16_224.augreg_in21k_ft_in1k", differs=(TANH,)),
            from_release(
                "vit_tiny_patch16_224",
                f"{BUCKET}/Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0"
                "--imagenet2012-steps_20k-lr_0.03-res_224.npz",
                "augreg",
                differs=(TANH,),
            ),
        ),
    ),
    released(
        name="augreg/ti_tinyimagenet",
        title="AugReg ViT-Ti/16, tuned to Tiny ImageNet",
        group="reserve",
        head=None,
        objective="labels, strong augmentation and regularisation; then those of Tiny ImageNet",
        data="ImageNet-21k, labels; then Tiny ImageNet, labels",
        architecture=vit("ti"),
        parameters=5_524_416,
        sources=(WeightSource(backend="timm", model="vit_tiny_patch16_224", differs=(TANH,)),),
        notes="For a file of one's own: no lasting address of such weights is known. The head, of "
        "200 classes, is no part of the contract; one in the file is left aside.",
    ),
    released(
        name="augreg/s",
        title="AugReg ViT-S/16",
        group="published",
        certainty="C",
        architecture=vit("s"),
        parameters=21_665_664,
        accuracy=(accuracy("top1", 81.402, TIMM_RESULTS),),
        sources=(
            from_timm("vit_small_patch16_224.augreg_in21k_ft_in1k", differs=(TANH,)),
            from_release(
                "vit_small_patch16_224",
                f"{BUCKET}/S_16-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0"
                "--imagenet2012-steps_20k-lr_0.03-res_224.npz",
                "augreg",
                differs=(TANH,),
            ),
        ),
    ),
    released(
        name="augreg/b",
        title="AugReg ViT-B/16",
        group="published",
        certainty="C",
        architecture=vit("b"),
        parameters=85_798_656,
        accuracy=(accuracy("top1", 84.534, TIMM_RESULTS),),
        sources=(
            from_timm("vit_base_patch16_224.augreg_in21k_ft_in1k", differs=(TANH,)),
            from_release(
                "vit_base_patch16_224",
                f"{BUCKET}/B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0"
                "--imagenet2012-steps_20k-lr_0.01-res_224.npz",
                "augreg",
                differs=(TANH,),
            ),
        ),
    ),
    released(
        name="augreg/l",
        title="AugReg ViT-L/16",
        group="reserve",
        architecture=vit("l"),
        parameters=303_301_632,
        accuracy=(accuracy("top1", 85.856, TIMM_RESULTS),),
        sources=(
            from_timm("vit_large_patch16_224.augreg_in21k_ft_in1k", differs=(TANH,)),
            from_release(
                "vit_large_patch16_224",
                f"{BUCKET}/L_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.1-sd_0.1"
                "--imagenet2012-steps_20k-lr_0.01-res_224.npz",
                "augreg",
                differs=(TANH,),
            ),
        ),
    ),
)

BLOCK = r"Transformer/encoderblock_(\d+)/"
RULES = (
    (r"cls", "cls_token"),
    (r"Transformer/posembed_input/pos_embedding", "pos_embed"),
    (r"embedding/(kernel|bias)", r"patch_embed.proj.\1"),
    (r"Transformer/encoder_norm/(scale|bias)", r"norm.\1"),
    (r"head/(kernel|bias)", r"head.\1"),
    (BLOCK + r"LayerNorm_0/(scale|bias)", r"blocks.\1.norm1.\2"),
    (BLOCK + r"LayerNorm_2/(scale|bias)", r"blocks.\1.norm2.\2"),
    (BLOCK + r"MlpBlock_3/Dense_0/(kernel|bias)", r"blocks.\1.mlp.fc1.\2"),
    (BLOCK + r"MlpBlock_3/Dense_1/(kernel|bias)", r"blocks.\1.mlp.fc2.\2"),
    (BLOCK + r"MultiHeadDotProductAttention_1/(query|key|value|out)/(kernel|bias)", r"blocks.\1.attn.\2.\3"),
)
PARTS = ("query", "key", "value")
MATRIX, HEADED, CONVOLUTION = 2, 3, 4  # axes of a kernel


@TEACHERS.register_layout("augreg")
def from_flax(tensors: Mapping[str, Any], architecture: Architecture) -> dict[str, Any]:
    """Turn the arrays of google-research/vision_transformer into timm's tensors.

    Files from before flax's linen count all parts of a block together, so its two norms are `LayerNorm_0` and
    `LayerNorm_2`. Kernels stand input first; those of attention keep the heads apart, which are in timm's
    order. Query, key and value are packed where all three are there.

    Raises:
        BadInputError: two tensors for one place.
    """
    found = renamed(tensors, RULES)
    for block in range(architecture.size.depth):
        _pack(found, f"blocks.{block}.attn.")
    return placed((name, *_turned(name, tensor)) for name, tensor in found.items())


def _turned(name: str, tensor: Any) -> tuple[str, Any]:
    """Give timm's name and order of axes; a shape that should not be is left for loading to name."""
    owner, _, leaf = name.replace(".attn.out.", ".attn.proj.").rpartition(".")
    if leaf == "scale":
        return f"{owner}.weight", tensor
    if leaf != "kernel":
        return f"{owner}.{leaf}" if owner else name, tensor
    if tensor.ndim == HEADED:  # (heads, head width, D)
        tensor = tensor.flatten(0, 1)
    if tensor.ndim == CONVOLUTION:  # (height, width, in, out)
        return f"{owner}.weight", tensor.permute(3, 2, 0, 1)
    return f"{owner}.weight", tensor.T if tensor.ndim == MATRIX else tensor


def _pack(found: dict[str, Any], attention: str) -> None:
    """Put query, key and value of one block together, in place: (D, heads, width) each to (3 D, D)."""
    for leaf, packed, axes in (("kernel", "qkv.weight", HEADED), ("bias", "qkv.bias", MATRIX)):
        names = [f"{attention}{part}.{leaf}" for part in PARTS]
        shapes = [tuple(found[name].shape) for name in names if name in found]
        if len(shapes) != len(PARTS) or len(set(shapes)) != 1 or len(shapes[0]) != axes:
            continue  # loading says what is missing or misshapen
        if f"{attention}{packed}" in found:
            raise BadInputError(
                f"two tensors for {attention}{packed}: that one, and its parts {', '.join(names)}"
            )
        stacked = [found.pop(name) for name in names]
        stacked = [one.flatten(1).T if leaf == "kernel" else one.flatten() for one in stacked]
        together = stacked[0].new_empty((len(PARTS), *stacked[0].shape))
        for index, one in enumerate(stacked):
            together[index] = one
        found[f"{attention}{packed}"] = together.flatten(0, 1)
