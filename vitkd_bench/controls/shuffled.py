"""Shuffled: what the teacher makes of one image is given to the student with another."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field
from torch import Tensor

from vitkd_bench.attention import AttentionCall
from vitkd_bench.contracts import CellFacts, Control, Features, Method, unmet
from vitkd_bench.controls._draws import Among, of_step, partners
from vitkd_bench.registry import CONTROLS
from vitkd_bench.spec import Settings

MOST_ALONE = 0.05
"""Share of images without another of their class in the batch, above which `same_class` means nothing."""


class ShuffleSettings(Settings):
    """Settings of both ways to shuffle."""

    among: Among = Field(
        default="any", description="whose the other image's reading is: any, one of the same class, or not"
    )


class Shuffled(Control):
    """Every image of a batch gets the reading of another one; each reading is used once.

    Under `same_class` an image that is alone of its class in its batch exchanges with one that is alone as
    well, or joins another class; where that is to be expected of more than one in twenty, it is refused. At
    test no label is asked: a method that needs its teacher there gets the reading of any other image of the
    evaluation batch, under `same_class` its own. An evaluation batch of one image has no other.
    """

    Config = ShuffleSettings

    @classmethod
    def refuses(cls, config: ShuffleSettings, method: Method, cell: CellFacts) -> str | None:
        if config.among != "any" and (why := unmet(f"among: {config.among}", ["plain_labels"], cell)):
            return why
        if config.among != "same_class" or cell.recipe is None:
            return None
        size, classes = cell.recipe.batch_size, len(cell.dataset.classes)
        alone = (1 - 1 / classes) ** (size - 1)
        if alone <= MOST_ALONE:
            return None
        return (
            f"in batches of {size} of {classes} classes, {alone:.0%} of the images meet no other of their "
            "class to exchange with"
        )

    def partners(self, ids: Tensor, labels: Tensor | None, epoch: int) -> Tensor:
        """Give the position (B,) in the batch whose reading each image gets, on the CPU."""
        generator = of_step(self.seed, ids, labels, epoch)
        return partners(len(ids), labels, self.config.among, generator)

    def notes(self) -> tuple[str, ...]:
        return (f"the student met the teacher's reading of another image ({self.config.among})",)


@CONTROLS.register(
    "shuffled_maps",
    title="attention of another image",
    claim="that its maps say something of the image",
    acts_on=("attention",),
    needs=("batch",),
)
class ShuffledMaps(Shuffled):
    """Attention calls, queries, keys and values together, go to another image of the batch."""

    def seen(self, teacher: Features, ids: Tensor, labels: Tensor | None = None, epoch: int = 0) -> Features:
        order = self.partners(ids, labels, epoch)
        return replace(teacher, attention={i: _of(order, call) for i, call in teacher.attention.items()})


@CONTROLS.register(
    "shuffled_outputs",
    title="outputs of another image",
    claim="that tokens or logits say something of the image",
    acts_on=("tokens", "pooled", "logits"),
    needs=("batch",),
)
class ShuffledOutputs(Shuffled):
    """Tokens, pooled features and logits, all of one image together, go to another image of the batch."""

    def seen(self, teacher: Features, ids: Tensor, labels: Tensor | None = None, epoch: int = 0) -> Features:
        order = self.partners(ids, labels, epoch)
        return replace(
            teacher,
            logits=None if teacher.logits is None else teacher.logits[order],
            pooled=None if teacher.pooled is None else teacher.pooled[order],
            tokens={i: tokens[order] for i, tokens in teacher.tokens.items()},
        )


def _of(order: Tensor, call: AttentionCall) -> AttentionCall:
    bias = call.bias
    if bias is not None and bias.dim() == 4 and len(bias) == len(order):
        bias = bias[order]
    return replace(call, q=call.q[order], k=call.k[order], v=call.v[order], bias=bias)
