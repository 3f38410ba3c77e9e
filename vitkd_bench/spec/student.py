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
    "rope": True,
    "qk_norm": True,
    "mlp": "swiglu",
}


class StudentEntry(Frozen):
    """A student as a suite names it: `kind[@size]`, or a set of components under a name of its own."""

    name: str | None = None
    as_: str | None = Field(default=None, alias="as")
    components: tuple[str, ...] | None = None
    size: str | None = None
    layer_scale_init: float | None = Field(default=None, gt=0)
    registers: Literal["same", "none"] = "same"

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
        return self

    @property
    def label(self) -> str:
        """The name by which tables call it."""
        return self.as_ or self.name or ""


def resolve_student(entry: StudentEntry, teacher: Architecture) -> Architecture:
    """Build the architecture of a student of `teacher`: its token interface, the chosen components.

    A native student is the teacher's architecture; a standard one has plain components. Weights play no part.
    """
    kind, _, size = (entry.name or "standard").partition("@")
    names = entry.components if entry.components is not None else _components_of(kind, teacher.components)
    size = entry.size or size
    return teacher.with_(
        size=SIZES[size] if size else teacher.size,
        registers=0 if entry.registers == "none" else teacher.registers,
        components=_take(names, teacher.components, entry.layer_scale_init),
    )


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
    if layer_scale_init is not None:
        if "layer_scale" not in taken:
            return Components.model_validate(taken)
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
