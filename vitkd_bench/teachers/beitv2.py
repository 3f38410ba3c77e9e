"""BEiT v2: masked patches predicted as tokens of a tokenizer that CLIP taught (Peng et al., 2022).

Native components: layer scale, from 0.1 in the base model and 1e-5 in the large (`beit2/PRETRAINING.md`), a
relative position bias and no absolute position embedding, and no bias of the keys. Pretraining shares one
relative table among all blocks; the teachers and the micro models, and students, have one a block. The
teachers are the weights of pretraining alone, which timm does not have: its files were fine-tuned on labels.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from vitkd_bench.registry import TEACHERS
from vitkd_bench.registry.placing import placed
from vitkd_bench.spec import IMAGENET_PIXELS, Architecture, Components, Teacher
from vitkd_bench.teachers._micro import made_from_digits, micro_architecture, two_sizes
from vitkd_bench.teachers._released import CROP_256, IMAGENET_1K, accuracy, from_release, vit

README = "microsoft/unilm@768a3c8 beit2/README.md"
FILES = "https://github.com/addf400/files/releases/download/BEiT-v2"  # of `beit2/PRETRAINING.md`
UNUSED = ("mask_token", "lm_head.*", "cls_pt_layers.*", "*relative_position_index")

LARGE = Components(layer_scale=1e-5, relative_position_bias=True, position="none", qkv_bias="qv")
BASE = Components(layer_scale=0.1, relative_position_bias=True, position="none", qkv_bias="qv")

beitv2 = partial(
    Teacher,
    family="beitv2",
    outcome="fails",
    paper="arXiv:2208.06366",
    objective="masked tokens of a tokenizer",
)

TEACHERS.register(
    *two_sizes(
        beitv2(
            name="micro/beitv2",
            title="BEiT v2, micro",
            architecture=micro_architecture(BASE),
            notes="Its tokenizer is a codebook on micro/clip's patch tokens; a relative table a block.",
            **made_from_digits("pretrain_beitv2", "micro_pretrain_masked", reads="micro/clip"),
        )
    )
)

released = partial(
    beitv2,
    group="published",
    licence="MIT",
    pixels=IMAGENET_PIXELS,
    crop=CROP_256,
    data="ImageNet-1k, no labels, 1600 epochs; its tokenizer was taught by CLIP",
    seen=IMAGENET_1K,
    notes="Pooled is the class token after the last norm, as pretraining has it.",
)
# pretraining has a norm of all tokens and none after a mean, which is what timm builds without being told
TOKEN = {"global_pool": "token"}

TEACHERS.register(
    released(
        name="beitv2/b",
        title="BEiT v2 ViT-B/16",
        certainty="B",
        architecture=vit("b", BASE),
        parameters=85_761_984,
        accuracy=(accuracy("finetuned", 85.5, README),),
        sources=(
            from_release(
                "beitv2_base_patch16_224",
                f"{FILES}/beitv2_base_patch16_224_pt1k.pth",
                "beitv2",
                unused=UNUSED,
                arguments=TOKEN,
            ),
        ),
    ),
    released(
        name="beitv2/l",
        title="BEiT v2 ViT-L/16",
        certainty="D",
        architecture=vit("l", LARGE),
        parameters=303_405_568,
        accuracy=(accuracy("finetuned", 87.3, README),),
        sources=(
            from_release(
                "beitv2_large_patch16_224",
                f"{FILES}/beitv2_large_patch16_224_pt1k.pth",
                "beitv2",
                unused=UNUSED,
                arguments=TOKEN,
            ),
        ),
    ),
)

SHARED = "rel_pos_bias.relative_position_bias_table"


@TEACHERS.register_layout("beitv2")
def table_for_each_block(tensors: Mapping[str, Any], architecture: Architecture) -> dict[str, Any]:
    """Give every block the relative table that pretraining shares among all of them.

    Source: microsoft/unilm `beit2/run_class_finetuning.py`, which does so before fine-tuning. Weights that
    were fine-tuned have a table a block already.

    Raises:
        BadInputError: a shared table, and one of a block's own.
    """
    blocks = [f"blocks.{block}.attn.relative_position_bias_table" for block in range(architecture.size.depth)]
    return placed(
        (name, place, tensor)
        for name, tensor in tensors.items()
        for place in (blocks if name == SHARED else [name])
    )
