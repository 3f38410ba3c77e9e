"""iBOT: self-distillation of views and of masked tokens (Zhou et al., ICLR 2022).

A plain ViT: a native student of this family is the standard one.
"""

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import Teacher
from vitkd_bench.teachers._micro import made_from_digits, micro_architecture

TEACHERS.register(
    Teacher(
        name="micro/ibot",
        title="iBOT, micro",
        family="ibot",
        outcome="transfers",
        paper="arXiv:2111.07832",
        objective="self-distillation of views and of masked tokens",
        architecture=micro_architecture(),
        notes="The averaged network is kept, as published.",
        **made_from_digits("pretrain_ibot"),
    )
)
