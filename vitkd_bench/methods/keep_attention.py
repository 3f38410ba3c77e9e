"""Keep attention: pretrained attention modules in a student whose MLPs are drawn (arXiv:2605.07191)."""

from __future__ import annotations

from vitkd_bench.methods._from_teacher import ATTENTION, of_module
from vitkd_bench.methods._kept_module import KeptModule
from vitkd_bench.registry import METHODS


@METHODS.register(
    "keep_attention",
    title="Attention modules kept",
    kind="weights",
    paper="arXiv:2605.07191",
    needs=("width", "depth", "heads", "grid"),
    budget="0 without transfer; with attn_distill weight: 6 trials of {.03, .1, .3, 1, 3, 10}",
)
class KeepAttention(KeptModule):
    """Cross-entropy with the labels, from a student with the teacher's attention modules and drawn MLPs.

    Half of the component diagnosis; `keep_mlp` is the other. Digests of the paper say which module was drawn
    anew, and probably exchange the two, so the settings are named by what is kept. Kept are `attn.qkv` and
    `attn.proj`; with `extent: norm` also `norm1`; with `all` also the first layer scale, the relative
    position table and the norms of queries and keys. `rest: keep` keeps patch projection, tokens, positions
    and last norm. The host is the student of the cell: `native` keeps the teacher's architecture, `standard`
    drops what it has no place for, or folds layer scales into `attn.proj` (`fold_layer_scale`). Everything is
    trained. With `transfer: attn_copy` the teacher is needed at test.
    """

    def of_kept_module(self, name: str) -> bool:
        return of_module(ATTENTION, self.config.extent, name)
