"""MAE: masked patches reconstructed as pixels (He et al., CVPR 2022).

A plain ViT as released for fine-tuning: a native student of this family is the standard one. At pretraining
the position embedding is fixed; the released file holds it as a parameter like any other, and so does the
contract.
"""

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import Teacher
from vitkd_bench.teachers._micro import made_from_digits, micro_architecture

TEACHERS.register(
    Teacher(
        name="micro/mae",
        title="MAE, micro",
        family="mae",
        outcome="transfers",
        paper="arXiv:2111.06377",
        objective="masked pixels",
        architecture=micro_architecture(),
        notes="The position embedding is learned from the start, where MAE's is fixed at pretraining.",
        **made_from_digits("pretrain_mae", "micro_pretrain_masked"),
    )
)
