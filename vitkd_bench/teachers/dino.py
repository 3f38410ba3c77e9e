"""DINO: self-distillation between views, without labels (Caron et al., ICCV 2021).

A plain ViT: a native student of this family is the standard one.
"""

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import Teacher
from vitkd_bench.teachers._micro import made_from_digits, micro_architecture

TEACHERS.register(
    Teacher(
        name="micro/dino",
        title="DINO, micro",
        family="dino",
        outcome="transfers",
        paper="arXiv:2104.14294",
        objective="self-distillation of views",
        architecture=micro_architecture(),
        notes="Views differ by small rotations, contrast and noise; the averaged network is kept.",
        **made_from_digits("pretrain_dino"),
    )
)
