"""BEiT v2: masked patches predicted as tokens of a tokenizer that CLIP taught (Peng et al., 2022).

Native components: layer scale, from 0.1 in the base model and 1e-5 in the large (`beit2/PRETRAINING.md`), a
relative position bias and no absolute position embedding, and no bias of the keys. Pretraining shares one
relative table among all blocks; the released and the micro models, and students, have one a block.
"""

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import Components, Teacher
from vitkd_bench.teachers._micro import made_from_digits, micro_architecture

TEACHERS.register(
    Teacher(
        name="micro/beitv2",
        title="BEiT v2, micro",
        family="beitv2",
        outcome="fails",
        paper="arXiv:2208.06366",
        objective="masked tokens of a tokenizer",
        architecture=micro_architecture(
            Components(layer_scale=0.1, relative_position_bias=True, position="none", qkv_bias="qv")
        ),
        notes="Its tokenizer is a codebook on micro/clip's patch tokens; a relative table in every block.",
        **made_from_digits("pretrain_beitv2", "micro_pretrain_masked", reads="micro/clip"),
    )
)
