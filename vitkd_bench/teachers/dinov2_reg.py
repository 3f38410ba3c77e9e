"""DINOv2 with registers: four tokens more, for the network's own use (Darcet et al., ICLR 2024).

Native component: layer scale from 1e-5, as DINOv2. The registers are token interface, so that a standard
student has them too. Neither they nor, in timm's form, the class token have a position: timm adds the class
token's slot to the class token.
"""

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import Components, Teacher
from vitkd_bench.teachers._micro import made_from_digits, micro_architecture

TEACHERS.register(
    Teacher(
        name="micro/dinov2_reg",
        title="DINOv2 with registers, micro",
        family="dinov2_reg",
        outcome="fails",
        paper="arXiv:2309.16588",
        objective="self-distillation of views and of masked tokens, spread features",
        architecture=micro_architecture(Components(layer_scale=1e-5, position_on_prefix=False), registers=4),
        notes="As micro/dinov2, with four registers.",
        **made_from_digits("pretrain_dinov2"),
    )
)
