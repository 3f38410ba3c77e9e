"""Keep MLPs: pretrained MLPs in a student whose attention modules are drawn (arXiv:2605.07191)."""

from __future__ import annotations

from vitkd_bench.contracts import CellFacts
from vitkd_bench.methods._from_teacher import MLP, of_module
from vitkd_bench.methods._kept_module import KeptModule
from vitkd_bench.registry import METHODS


@METHODS.register(
    "keep_mlp",
    title="MLPs kept",
    kind="weights",
    paper="arXiv:2605.07191",
    needs=("width", "depth", "grid"),
    budget="0 without transfer; with attn_distill weight: 6 trials of {.03, .1, .3, 1, 3, 10}",
)
class KeepMlp(KeptModule):
    """Cross-entropy with the labels, from a student with the teacher's MLPs and drawn attention modules.

    The other half of the component diagnosis; see `keep_attention`. Kept are `mlp.fc1` and `mlp.fc2`; with
    `extent: norm` also `norm2`; with `all` also the second layer scale. `fold_layer_scale` multiplies that
    into `mlp.fc2` where the student has none. A student whose MLP has another form is refused.
    """

    @classmethod
    def refuses(cls, config: KeptModule.Config, cell: CellFacts) -> str | None:
        teacher = cell.teacher_architecture
        if teacher is not None:
            ours, theirs = (f"{a.components.mlp} x {a.size.mlp_ratio:g}" for a in (cell.student, teacher))
            if ours != theirs:
                return (
                    f"forms of the MLP differ: student {ours}, teacher {theirs}; keep_mlp needs the teacher's"
                )
        return super().refuses(config, cell)

    def of_kept_module(self, name: str) -> bool:
        return of_module(MLP, self.config.extent, name)
