"""MoCo v3: contrast of two views against a momentum encoder (Chen, Xie and He, ICCV 2021).

Its position embedding is the fixed 2D sin-cos one, with a zero slot for the class token (`vits.py:53-69`),
and its patch projection stays at its random start during pretraining. The released ViT-S has 12 heads of
width 32 where others have 6 of 64; at this size the micro teacher keeps the heads of its size.
"""

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import Components, Teacher
from vitkd_bench.teachers._micro import made_from_digits, micro_architecture

TEACHERS.register(
    Teacher(
        name="micro/mocov3",
        title="MoCo v3, micro",
        family="mocov3",
        outcome="transfers",
        paper="arXiv:2104.02057",
        objective="contrast of views, momentum encoder",
        architecture=micro_architecture(Components(position="fixed")),
        notes="The outcome of this family is inferred by elimination: no text that could be read names it.",
        **made_from_digits("pretrain_mocov3"),
    )
)
