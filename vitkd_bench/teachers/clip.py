"""CLIP: images and texts contrasted (Radford et al., ICML 2021).

Native components: a norm before the blocks, QuickGELU, a patch projection without bias, norm epsilon 1e-5
(openai/CLIP `clip/model.py`).
"""

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import Components, Teacher
from vitkd_bench.teachers._micro import DIGIT_NAMES, made_from_digits, micro_architecture

TEACHERS.register(
    Teacher(
        name="micro/clip",
        title="CLIP, micro",
        family="clip",
        outcome="fails",
        paper="arXiv:2103.00020",
        objective="contrast of images and class names",
        architecture=micro_architecture(
            Components(norm_pre=True, activation="quick_gelu", patch_bias=False, norm_eps=1e-5)
        ),
        head=DIGIT_NAMES,
        notes="Ten class names stand for captions: images of one class in a batch share their text.",
        **made_from_digits("pretrain_clip"),
    )
)
