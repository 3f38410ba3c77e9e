"""Attention distillation: the student's maps learn to match the teacher's (Li et al., arXiv:2411.09702)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor

from vitkd_bench.attention import AttentionCall, Loss, OverKeys, attention_distillation
from vitkd_bench.contracts import Batch, CellFacts, Features, Network
from vitkd_bench.methods._block_matching import (
    BlockMatching,
    MatchSettings,
    Over,
    over_blocks,
    refuse_unpaired,
)
from vitkd_bench.methods._labels import label_loss_of
from vitkd_bench.methods._pairing import Match
from vitkd_bench.methods._shared_drop_path import SharedDropPath, paths_differ
from vitkd_bench.registry import METHODS


class _Own(NamedTuple):
    """What a loss uses where the settings do not say: reduction over keys, weight, and the weights to try."""

    over_keys: OverKeys
    weight: float
    grid: tuple[float, ...]


# Losses differ in size by four orders of magnitude, so each has weights of its own. Cross-entropy: 3 is that
# of the published code; map MSE averaged over keys: the grid 3e3 to 3e5 of arXiv:2609.35745, appendix B.4;
# MSE of logits: TinyBERT's weight is 1 (arXiv:1909.10351).
OWN: dict[Loss, _Own] = {
    "ce": _Own("sum", 3.0, (0.03, 0.1, 0.3, 1, 3, 10)),
    "kl": _Own("sum", 3.0, (0.03, 0.1, 0.3, 1, 3, 10)),
    "jsd": _Own("sum", 10.0, (0.3, 1, 3, 10, 30, 100)),
    "l1": _Own("sum", 3.0, (0.1, 0.3, 1, 3, 10, 30)),
    "mse": _Own("mean", 3e4, (1e3, 3e3, 1e4, 3e4, 1e5, 3e5)),
    "mse_logits": _Own("mean", 1.0, (0.03, 0.1, 0.3, 1, 3, 10)),
}
_GRIDS = "; ".join(f"{loss} {{{', '.join(f'{w:g}' for w in own.grid)}}}" for loss, own in OWN.items())


def attn_distill_loss(
    student: Sequence[AttentionCall],
    teacher: Sequence[AttentionCall],
    loss: Loss = "ce",
    *,
    over_keys: OverKeys | None = None,
    over: Over = "sum",
) -> Tensor:
    """Distance of the student's attention maps from the teacher's, summed (or averaged) over blocks.

    The calls are paired by position; q and k are (B, H, N, d) with equal B, H and N on both sides. Per
    block: sum over keys, mean over batch, heads and queries, the class token's row and column included;
    `over_keys="mean"`, which is what None means for `mse` and `mse_logits`, divides by N besides.
    `ce` is -sum_j A_t log A_s in nats, whose floor is the teacher's entropy; `kl` subtracts that entropy, so
    that its floor is 0; their gradients are equal. `jsd` (nats), `l1` and `mse` compare the maps, and
    `mse_logits` what goes into their softmax; the floor of all four is 0. The teacher is detached. Source:
    arXiv:2411.09702, code models_dual_vit.py:277-283, for `ce`; `mse`, `jsd` and `l1` of maps are studied in
    arXiv:2605.07191, `mse_logits` is TinyBERT's (arXiv:1909.10351, equation 7).

    Raises:
        ValueError: not as many calls on both sides, none, or maps of another shape.
    """
    refuse_unpaired(student, teacher)
    keys = over_keys or OWN[loss].over_keys
    pairs = zip(student, teacher, strict=True)
    return over_blocks([attention_distillation(s, t, loss=loss, over_keys=keys) for s, t in pairs], over)


@METHODS.register(
    "attn_distill",
    title="Attention distillation",
    kind="attention",
    paper="arXiv:2411.09702",
    budget=f"weight: 6 trials: {_GRIDS}; layers: {{all, first 3/4}}",
)
class AttentionDistillation(BlockMatching):
    """Cross-entropy with labels + weight x the sum over blocks of the distance between attention maps.

    The teacher is not needed at test. At the start maps are nearly uniform, so the cross-entropy is about
    ln N a block: the default weight suits long recipes, short ones want less. Tokens that only the teacher
    has are left out of its maps (`registers: none`, `class_token: none` of a student).

    `lc_compat` does what the published code does in training (models_dual_vit.py:247, 261-263): the teacher
    runs under the drop path masks of the student, so that its maps are noisy. Its number of blocks is a
    setting of its own: whatever that code is asked, it leaves the last three free (`layers: first:21` of 24).

    `match: experimental_nearest` is ours, for pairs of different size. A block meets the teacher's block that
    ends at the same share of the depth; of h heads on one side and g h on the other, each of the h meets g in
    a row, and the distance is the mean over all these pairs: for `ce` that is the distance from the mean map.
    """

    floors = {"attention": "teacher"}

    class Config(MatchSettings):
        loss: Loss = Field(
            default="ce",
            description="distance of maps: ce, kl (same gradient, floor at 0), jsd, l1, mse; or mse_logits",
        )
        over_keys: OverKeys | None = Field(
            default=None, description="a row's distance: sum or mean over keys; mean if left out for both mse"
        )
        weight: float | None = Field(
            default=None,
            ge=0,
            validate_default=True,
            description="of the maps' loss, against a label loss of weight 1; if left out the loss's own: "
            + ", ".join(f"{loss} {own.weight:g}" for loss, own in OWN.items()),
        )
        match: Match = Field(
            default="exact", description="blocks and heads: number by number, or across sizes (experimental)"
        )
        lc_compat: bool = Field(
            default=False,
            description="as the published code: the teacher under the student's drop path masks",
        )

        @field_validator("over_keys")
        @classmethod
        def _own_reduction(cls, over_keys: OverKeys | None, info: ValidationInfo) -> OverKeys | None:
            """Leave out what is the loss's own, so that one meaning has one form (and one run id)."""
            loss = info.data.get("loss")
            return None if loss and over_keys == OWN[loss].over_keys else over_keys

        @field_validator("weight")
        @classmethod
        def _own_weight(cls, weight: float | None, info: ValidationInfo) -> float | None:
            """Leave out what is the loss's own; with another reduction there is no such weight."""
            loss, over_keys = info.data.get("loss"), info.data.get("over_keys")
            if loss and over_keys:
                if weight is None:
                    raise ValueError(f"say a weight: that of {loss} is meant for another over_keys")
                return weight
            return None if loss and weight == OWN[loss].weight else weight

        @property
        def used_weight(self) -> float:
            """The weight given, or the loss's own."""
            return OWN[self.loss].weight if self.weight is None else self.weight

    def __init__(self, config: Config, cell: CellFacts) -> None:
        """Keep the settings; the networks that share masks are known after `fit`."""
        super().__init__(config, cell)
        self.shared: SharedDropPath | None = None

    @classmethod
    def match_of(cls, config: Config) -> Match:
        return config.match

    @classmethod
    def refuses(cls, config: Config, cell: CellFacts) -> str | None:
        return super().refuses(config, cell) or (paths_differ(cell) if config.lc_compat else None)

    @classmethod
    def reads_alone(cls, config: Config) -> bool:
        return config.lc_compat

    def fit(self, student: Network, teacher: Network | None, batches: Iterable[Batch]) -> None:
        """Let the teacher share the student's drop path, where that is asked for."""
        if self.config.lc_compat:
            self.shared = SharedDropPath(student, teacher)

    def step(self, student: Network, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        if self.shared is not None:
            teacher = self.shared.read(batch.for_teacher, self.teacher_taps())
        return super().step(student, teacher, batch)

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        config = self.config
        maps = attn_distill_loss(
            *self.calls(student, teacher), config.loss, over_keys=config.over_keys, over=config.over
        )
        weight = config.used_weight * config.factor(batch.progress)
        return {"labels": label_loss_of(student, batch), "attention": weight * maps}

    def notes(self) -> tuple[str, ...]:
        own = self.config.weight is None and self.config.loss != "ce"
        weight = (f"weight of the maps' loss: {self.config.used_weight:g}, that of {self.config.loss}",)
        return (*super().notes(), *(weight if own else ()))
