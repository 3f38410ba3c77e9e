"""SigLIP 2: images and texts paired by a sigmoid loss, with self-distillation (Tschannen et al., 2025).

It has no class token, and GELU in its tanh form (big_vision `models/vit.py`). Its attention pooling stands
after the blocks and is no part of a native student: it routes no tokens within the network.
"""

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import Components, Teacher
from vitkd_bench.teachers._micro import DIGIT_NAMES, made_from_digits, micro_architecture

TEACHERS.register(
    Teacher(
        name="micro/siglip2",
        title="SigLIP 2, micro",
        family="siglip2",
        outcome="transfers",
        paper="arXiv:2502.14786",
        objective="sigmoid loss of images and class names",
        architecture=micro_architecture(Components(activation="gelu_tanh"), class_token=False),
        head=DIGIT_NAMES,
        notes="Ten class names stand for captions; pooling is the mean of patches, no attention pool.",
        **made_from_digits("pretrain_siglip2"),
    )
)
