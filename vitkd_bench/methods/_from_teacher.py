"""Students that start from weights of the teacher: what fits where, and what is left as it was drawn."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from vitkd_bench.contracts import Batch, Features, Method, Network
from vitkd_bench.methods._labels import label_loss_of
from vitkd_bench.spec import Architecture, Settings

Extent = Literal["linear", "norm", "all"]
"""What counts as a module: its linear layers; the norm before it too; all that belongs to it."""

EXTENTS: tuple[Extent, ...] = "linear", "norm", "all"
ATTENTION: Mapping[Extent, str] = {
    "linear": r"attn\.(?:qkv\.\w+|proj\.\w+|[qv]_bias)",
    "norm": r"norm1\.\w+",
    "all": r"ls1\.gamma|attn\.(?:relative_position_bias_table|[qk]_norm\.\w+)",
}
MLP: Mapping[Extent, str] = {"linear": r"mlp\.fc[12]\.\w+", "norm": r"norm2\.\w+", "all": r"ls2\.gamma"}

_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")
_BRANCHES = (("ls1.gamma", "attn.proj"), ("ls2.gamma", "mlp.fc2"))


def of_module(module: Mapping[Extent, str], extent: Extent, name: str) -> bool:
    """Say whether a parameter belongs to that module of some block, in this extent or a smaller one."""
    inside = _BLOCK.fullmatch(name)
    taken = EXTENTS[: EXTENTS.index(extent) + 1]
    return inside is not None and any(re.fullmatch(module[each], inside[2]) for each in taken)


def in_a_block(name: str) -> bool:
    """Say whether a parameter is of a block."""
    return _BLOCK.fullmatch(name) is not None


def of_head(name: str) -> bool:
    """Say whether a parameter is of the classification head."""
    return name.startswith("head.")


def fold_layer_scale(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Multiply each layer scale into the last linear layer of its branch, which computes the same.

    x + g * (W a + b) = x + (diag(g) W) a + g * b. `weights` are by timm's names; so is the answer, without
    layer scales.
    """
    folded = dict(weights)
    for name in weights:
        for scale, layer in _BRANCHES:
            if name.endswith(f".{scale}"):
                gamma, linear = folded.pop(name), f"{name.removesuffix(scale)}{layer}"
                folded[f"{linear}.weight"] = folded[f"{linear}.weight"] * gamma[:, None]
                folded[f"{linear}.bias"] = folded[f"{linear}.bias"] * gamma
    return folded


def in_form_of(
    weights: Mapping[str, Tensor], student: Architecture, teacher: Architecture, *, fold: bool = False
) -> dict[str, Tensor]:
    """Bring a teacher's weights, by timm's names, into the form in which a student keeps the same function.

    The last norm is `fc_norm`. A teacher that normalises before it pools makes another representation than a
    student does, so that its head is left out. A bias that only the student has is zero; one of the keys,
    which no softmax sees, is left out where the student has none.
    Positions of prefix tokens that the student keeps within the tokens are added to these. With `fold`
    layer scales are folded in where the student has none.
    """
    own = student.components
    formed = fold_layer_scale(weights) if fold and own.layer_scale is None else dict(weights)
    if not any(name.startswith("fc_norm.") for name in formed):
        formed = {re.sub(r"^norm\.", "fc_norm.", n): t for n, t in formed.items() if not of_head(n)}
    if own.patch_bias and "patch_embed.proj.weight" in formed:
        patch = formed["patch_embed.proj.weight"]
        formed.setdefault("patch_embed.proj.bias", patch.new_zeros(len(patch)))
    for i in range(teacher.size.depth):
        _bias_in_form(formed, f"blocks.{i}.attn.", own.qkv_bias)
    if "pos_embed" in formed and own.position != "none":
        _positions_in_form(formed, student, teacher)
    return formed


def _bias_in_form(formed: dict[str, Tensor], attention: str, wanted: Literal["full", "qv", "none"]) -> None:
    zero = formed[f"{attention}proj.weight"].new_zeros(len(formed[f"{attention}proj.weight"]))
    packed = formed.pop(f"{attention}qkv.bias", None)
    apart = (formed.pop(f"{attention}{letter}_bias", zero) for letter in "qkv")
    query, key, value = apart if packed is None else packed.chunk(3)
    if wanted == "full":
        formed[f"{attention}qkv.bias"] = torch.cat([query, key, value])
    elif wanted == "qv":
        formed[f"{attention}q_bias"], formed[f"{attention}v_bias"] = query, value


def _positions_in_form(formed: dict[str, Tensor], student: Architecture, teacher: Architecture) -> None:
    table, classes = formed["pos_embed"], int(teacher.class_token)
    if table.shape[1] == teacher.grid**2:
        table = torch.cat([table.new_zeros(1, teacher.prefix, table.shape[2]), table], dim=1)
    prefix = {"cls_token": table[:, :classes], "reg_token": table[:, classes : teacher.prefix]}
    kept = {"cls_token": student.class_token, "reg_token": student.registers > 0}
    patches = table[:, teacher.prefix :]
    if student.components.position_on_prefix:
        formed["pos_embed"] = torch.cat([*(prefix[name] for name in prefix if kept[name]), patches], dim=1)
        return
    formed["pos_embed"] = patches
    for name, position in prefix.items():
        if kept[name]:
            formed[name] = formed[name] + position


@dataclass(frozen=True, slots=True)
class Started:
    """Which parameters of a student come from the teacher, and which stay as drawn, by name."""

    copied: tuple[str, ...] = ()
    drawn: tuple[str, ...] = ()
    count: int = 0

    def notes(self) -> tuple[str, ...]:
        """Say both, blocks taken together."""
        copied = f"the student starts with {self.count} weights of the teacher: {_named(self.copied)}"
        return (copied, f"drawn at random: {_named(self.drawn) or 'nothing'}")


def start(student: Network, weights: Mapping[str, Tensor], wanted: Callable[[str], bool]) -> Started:
    """Copy into a student those weights that are wanted, by its own names, and have the right shape."""
    parameters = dict(student.module.named_parameters())
    fitting = [n for n, p in parameters.items() if wanted(n) and n in weights and weights[n].shape == p.shape]
    with torch.no_grad():
        for name in fitting:
            parameters[name].copy_(weights[name])
    drawn = tuple(name for name in parameters if name not in fitting)
    return Started(tuple(fitting), drawn, sum(parameters[name].numel() for name in fitting))


def _named(names: Iterable[str]) -> str:
    """List layers rather than their weights and biases, and those of all blocks once."""
    layers = dict.fromkeys(_BLOCK.sub(r"blocks.*.\2", n) for n in names)
    return ", ".join(dict.fromkeys(re.sub(r"\.(weight|bias)$", "", layer) for layer in layers))


class StartsFromTeacher(Method):
    """A method whose student starts from weights of the teacher and then learns from labels alone.

    The teacher is read once, before training, and runs in no step. A subclass says what is wanted, and may
    change what the teacher has (`weights_of`).
    """

    class Config(Settings):
        fold_layer_scale: bool = Field(
            default=False, description="multiply layer scales in where the student has none, else drop them"
        )

    started = Started()

    def wanted(self, name: str) -> bool:
        """Say whether this parameter of the student is to come from the teacher."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it takes from the teacher")

    def weights_of(self, student: Network, teacher: Network) -> dict[str, Tensor]:
        """Give the teacher's weights by the student's names, in the student's form."""
        folded = self.config.fold_layer_scale or self.cell.student.initial.folded_layer_scale is not None
        return in_form_of(teacher.weights(), self.cell.student, teacher.architecture, fold=folded)

    def fit(self, student: Network, teacher: Network | None, batches: Iterable[Batch]) -> None:
        """Copy the weights."""
        if teacher is None:
            raise TypeError("weights are taken from a teacher, and none was given")
        self.started = start(student, self.weights_of(student, teacher), self.wanted)

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        """Give the loss on labels."""
        return {"labels": label_loss_of(student, batch)}

    def notes(self) -> tuple[str, ...]:
        """Say what was copied and what was not."""
        return self.started.notes()
