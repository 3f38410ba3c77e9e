"""Reads and replaces attention in any ViT, and compares attention maps without making them.

The tap (`Tap`) stands at ``torch.nn.functional.scaled_dot_product_attention``, which every ViT of timm,
open_clip and transformers calls once a block; `AttentionCall` is what it finds there. `copied_attention` and
`attention_distillation` are the two ways of transfer, `plain_distillation` the second as it is written in the
papers: the reference for the first. `select_tokens` leaves tokens out of a call, for a student that lacks
them, `select_heads` heads; `with_heads` repeats these. A `PartialCall` or `AveragedCall` given to the tap
stands in for a part of a block's attention, or for each of its heads with several.
"""

from vitkd_bench.attention.call import AttentionCall
from vitkd_bench.attention.copying import copied_attention
from vitkd_bench.attention.distances import Loss
from vitkd_bench.attention.distillation import OverKeys, attention_distillation, plain_distillation
from vitkd_bench.attention.selection import select_heads, select_tokens, with_heads
from vitkd_bench.attention.stand_ins import AveragedCall, Part, PartialCall
from vitkd_bench.attention.tap import Tap

__all__ = [
    "AttentionCall",
    "AveragedCall",
    "Loss",
    "OverKeys",
    "Part",
    "PartialCall",
    "Tap",
    "attention_distillation",
    "copied_attention",
    "plain_distillation",
    "select_heads",
    "select_tokens",
    "with_heads",
]
