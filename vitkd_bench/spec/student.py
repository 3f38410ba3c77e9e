"""From a teacher and a word to a student's architecture."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from vitkd_bench.spec.architecture import (
    NAMED_COMPONENTS,
    PLAIN_LAYER_SCALE_INIT,
    SIZES,
    Architecture,
    Components,
    InitialValues,
    Size,
)
from vitkd_bench.spec.base import Frozen
from vitkd_bench.spec.errors import BadInputError, nearest

KINDS = ("standard", "native", "native_min")
_PLAIN_VALUE = {  # what a component is where the teacher has none to show
    "layer_scale": PLAIN_LAYER_SCALE_INIT,
    "norm_pre": True,
    "relative_position_bias": True,
    "position": "none",
    "position_on_prefix": False,
    "qkv_bias": "qv",
    "activation": "quick_gelu",
    "patch_bias": False,
    "norm_eps": 1e-5,
    "rope": "eva02",
    "qk_norm": True,
    "mlp": "swiglu",
}


class StudentEntry(Frozen):
    """A student as a suite names it: `kind[@size]`, or a set of components under a name of its own.

    `layer_scale_init` is the initial value of layer scale, the teacher's own by default. `layer_scale:
    folded` is a control: no layer scale is built, and the last layer of each branch is multiplied by that
    value when it is drawn; where the teacher has no layer scale and no value is given, nothing is folded.
    `scaled_by_depth` divides these layers by sqrt(2 l), BEiT's own law. `registers`
    and `class_token` are the teacher's (`same`) or left out (`none`).
    """

    name: str | None = None
    as_: str | None = Field(default=None, alias="as")
    components: tuple[str, ...] | None = None
    size: str | None = None
    layer_scale_init: float | None = Field(default=None, gt=0)
    layer_scale: Literal["separate", "folded"] = "separate"
    scaled_by_depth: bool = False
    registers: Literal["same", "none"] = "same"
    class_token: Literal["same", "none"] = "same"

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> StudentEntry:
        if (self.name is None) == (self.components is None):
            raise ValueError("give either a name (kind[@size]) or a list of components")
        if self.components is not None and self.as_ is None:
            raise ValueError("a student of chosen components needs a name of its own: as: ...")
        for component in self.components or ():
            if component not in Components.model_fields:
                raise ValueError(
                    f"unknown component {component!r}{nearest(component, Components.model_fields)}"
                )
        kind, _, size = ("standard" if self.name is None else self.name).partition("@")
        if kind not in KINDS:
            raise ValueError(f"unknown student {kind!r}{nearest(kind, KINDS)}")
        for asked in filter(None, (size, self.size)):
            if asked not in SIZES:
                raise ValueError(f"unknown size {asked!r}{nearest(asked, SIZES)}")
        if size and self.size:
            raise ValueError(f"size {self.size!r} beside {self.name!r}: give the size once")
        return self

    @model_validator(mode="after")
    def _initial_values_of_something(self) -> StudentEntry:
        plain = self.kind == "standard" and "layer_scale" not in (self.components or ())
        if self.layer_scale_init is not None and plain and self.layer_scale == "separate":
            raise ValueError(
                "layer_scale_init: this student has no layer scale; name that component, or fold it in with "
                "layer_scale: folded"
            )
        return self

    @property
    def kind(self) -> str:
        """The word before the size; a set of components starts from `standard`."""
        return (self.name or "standard").partition("@")[0]

    @property
    def label(self) -> str:
        """The name by which tables call it."""
        return self.as_ or self.name or ""


def resolve_student(entry: StudentEntry, teacher: Architecture) -> Architecture:
    """Build the architecture of a student of `teacher`: its token interface, the chosen components.

    A native student is the teacher's architecture; a standard one has plain components. Patch, grid, width,
    depth and heads are the teacher's unless a size is named; weights play no part. The MLP has the teacher's
    number of weights: a gated one, of three matrices, is two thirds as wide as a plain one.
    """
    components, initial = _initial_values(entry, teacher.components)
    named = entry.size or (entry.name or "").partition("@")[2]
    size, of = (SIZES[named], "plain") if named else (teacher.size, teacher.components.mlp)
    return teacher.with_(
        size=_sized(size, gated=of != "plain", to_gated=components.mlp != "plain"),
        registers=0 if entry.registers == "none" else teacher.registers,
        class_token=teacher.class_token and entry.class_token == "same",
        components=components,
        initial=initial,
    )


def _initial_values(entry: StudentEntry, teacher: Components) -> tuple[Components, InitialValues]:
    """Give the components, and what of them is put into initial values instead."""
    names = entry.components if entry.components is not None else _components_of(entry.kind, teacher)
    taken = _take(names, teacher, entry.layer_scale_init)
    folded = None
    if entry.layer_scale == "folded":
        asked = entry.layer_scale_init or teacher.layer_scale if entry.kind == "standard" else None
        folded = taken.layer_scale or asked
        taken = Components.model_validate({**dict(taken), "layer_scale": None})
    return taken, InitialValues(folded_layer_scale=folded, scaled_by_depth=entry.scaled_by_depth)


def _sized(size: Size, *, gated: bool, to_gated: bool) -> Size:
    if gated == to_gated:
        return size
    share = 2 / 3 if to_gated else 3 / 2
    return Size(width=size.width, depth=size.depth, heads=size.heads, mlp_ratio=size.mlp_ratio * share)


def _components_of(kind: str, teacher: Components) -> tuple[str, ...]:
    if kind == "native":
        return teacher.present()
    if kind == "native_min":
        return tuple(name for name in NAMED_COMPONENTS if name in teacher.present())
    return ()


def _take(names: tuple[str, ...], teacher: Components, layer_scale_init: float | None) -> Components:
    taken = {
        name: getattr(teacher, name) if name in teacher.present() else _PLAIN_VALUE[name] for name in names
    }
    if layer_scale_init is not None and "layer_scale" in taken:
        taken["layer_scale"] = layer_scale_init
    return Components.model_validate(taken)


def parse_student(text: str) -> StudentEntry:
    """Read `kind[@size]`.

    Raises:
        BadInputError: an unknown kind or size, with the nearest name.
    """
    try:
        return StudentEntry(name=text)
    except ValueError as error:
        message = str(error).split("Value error, ")[-1].split(" [type=")[0]
        raise BadInputError(f"student {text!r}: {message}") from None
