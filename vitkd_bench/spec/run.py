"""A run: what is trained once. Its id is a hash of all that is declared and can change a number."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

from pydantic import Field

from vitkd_bench.spec.architecture import Architecture
from vitkd_bench.spec.base import Frozen
from vitkd_bench.spec.canonical import content_hash
from vitkd_bench.spec.dataset import ResolvedDataset
from vitkd_bench.spec.recipe import Recipe
from vitkd_bench.spec.teacher import Backend, PositionInterpolation
from vitkd_bench.spec.versions import VERSIONS

PREPARED = "run:"
DRAWN = "random:"
SELF = "self"
"""Name of a teacher that is the student itself, trained before: no teacher of the registry is read."""


class TeacherUse(Frozen):
    """A teacher as a run reads it.

    `pin` is `run:<id>` of the preparation that makes it, `sha256:<digest>` of a file, or, of a teacher whose
    weights are drawn, `random:<law>:<hash of the network>:<seed>`. `key` is the pin without versions and
    seed: the same for a file, the preparation's cell key for a micro teacher. `image_size` in pixels.
    `backend` and `position_interpolation` are given where they are not the contract's own. `head` is given
    where its logits come from another head than its own: a `probe`, where `head_pin` and `head_key` name the
    run that fits that head, as `pin` and `key` do, one whose weights are drawn (`random`), where `head_pin`
    is `random:<seed>`, or one made of class names (`text`), where `head_pin` is
    `text:<version>:<hash of the templates>` and, if files hold its tokenizer, their hash.
    """

    name: str
    pin: str
    key: str
    image_size: int = Field(gt=0)
    version: int
    backend: Backend | None = None
    position_interpolation: PositionInterpolation | None = None
    head: Literal["probe", "random", "text"] | None = None
    head_pin: str | None = None
    head_key: str | None = None

    def declared_as(self, which: Literal["pin", "key"]) -> dict[str, Any]:
        """Give what of it can change a number, each made thing named by its pin or by its key."""
        asked = {
            "backend": self.backend,
            "position_interpolation": self.position_interpolation,
            "head": self.head,
            f"head_{which}": getattr(self, f"head_{which}"),
        }
        given = {k: v for k, v in asked.items() if v}
        return {which: getattr(self, which), "image_size": self.image_size, **given}

    @property
    def preparation(self) -> str | None:
        """Id of the run that makes this teacher, if one does."""
        return self.pin.removeprefix(PREPARED) if self.pin.startswith(PREPARED) else None

    @property
    def drawn(self) -> tuple[Literal["timm", "small"], int] | None:
        """Law of initialisation and seed of a teacher whose weights are drawn, None for any other."""
        if not self.pin.startswith(DRAWN):
            return None
        law, _, seed = self.pin.removeprefix(DRAWN).split(":")
        return "small" if law == "small" else "timm", int(seed)

    @property
    def drawn_head(self) -> int | None:
        """Seed of a head whose weights are drawn, None for any other."""
        return int((self.head_pin or "").removeprefix(DRAWN)) if self.head == "random" else None

    @property
    def preparations(self) -> tuple[str, ...]:
        """Ids of all runs that must be there before this teacher can be used."""
        made = [pin for pin in (self.pin, self.head_pin) if pin and pin.startswith(PREPARED)]
        return tuple(pin.removeprefix(PREPARED) for pin in made)


class ControlUse(Frozen):
    """A control with those of its settings that differ from the default."""

    name: str
    version: int
    settings: dict[str, Any] = {}


class MethodUse(Frozen):
    """A method with those of its settings that differ from the default, under a control if one is given."""

    name: str
    version: int
    settings: dict[str, Any] = {}
    control: ControlUse | None = None

    @property
    def canonical(self) -> str:
        """The name that tells a control from its method."""
        return f"{self.name}+{self.control.name}" if self.control else self.name

    def declared_parts(self) -> dict[str, Any]:
        """Give what stands in a run's id; of a control only where there is one."""
        own = {"name": self.name, "settings": self.settings}
        control = self.control
        return {
            **own,
            **({"control": {"name": control.name, "settings": control.settings}} if control else {}),
        }


class Run(Frozen):
    """A resolved cell and a seed: the unit of work and of record. `teacher` is None if none is read."""

    student: Architecture
    method: MethodUse
    teacher: TeacherUse | None = None
    dataset: ResolvedDataset
    recipe: Recipe
    seed: int = Field(ge=0)

    def with_method(self, method: MethodUse, teacher: TeacherUse | None = None) -> Run:
        """Give the run of the same student, data, recipe and seed under another method."""
        return Run(
            student=self.student,
            method=method,
            teacher=teacher,
            dataset=self.dataset,
            recipe=self.recipe,
            seed=self.seed,
        )

    def _declared(self) -> dict[str, Any]:
        return {
            "student": self.student.declared(),
            "method": self.method.declared_parts(),
            "dataset": self.dataset.identity(),
            "recipe": self.recipe.identity(),
        }

    @cached_property
    def versions(self) -> dict[str, int]:
        """The small version numbers that this run's numbers depend on."""
        own = {"method": self.method.version, "dataset": self.dataset.version}
        given = {"contract": self.teacher, "control": self.method.control}
        return {**VERSIONS, **own, **{name: part.version for name, part in given.items() if part}}

    @cached_property
    def id(self) -> str:
        """Sixteen hexadecimal digits; equal declarations give equal ids on every machine."""
        teacher = self.teacher and self.teacher.declared_as("pin")
        return content_hash(
            {**self._declared(), "teacher": teacher, "seed": self.seed, "versions": self.versions}
        )

    @cached_property
    def cell_key(self) -> str:
        """The id without versions and seed: same key, other id means that a record is stale."""
        teacher = self.teacher and self.teacher.declared_as("key")
        return content_hash({**self._declared(), "teacher": teacher})

    @cached_property
    def protocol(self) -> str:
        """Hash of what makes numbers comparable: recipe, data set and its split rule, metrics; no seeds."""
        versions = {name: VERSIONS[name] for name in ("engine", "pixels", "metrics")}
        return content_hash(
            {"recipe": self.recipe.identity(), "dataset": self.dataset.identity(), "versions": versions}
        )

    @property
    def teacher_predictions(self) -> str | None:
        """Name of the file in which its teacher's predictions on test are kept; None if it reads none.

        The same for all runs with this teacher, these classes and these images, whatever they train.
        """
        if self.teacher is None or self.teacher.name == SELF:
            return None
        versions = {name: self.versions[name] for name in ("pixels", "dataset", "contract")}
        read = {"teacher": self.teacher.declared_as("pin"), "dataset": self.dataset.identity()}
        return f"teacher-{content_hash({**read, 'crop': self.recipe.eval_crop, 'versions': versions})}"

    @cached_property
    def stream_key(self) -> str:
        """Runs with equal keys see the same pixels in the same batches, and can share a pack."""
        return content_hash(
            {
                "dataset": [self.dataset.identity(), self.dataset.version],
                "recipe": self.recipe.identity(),
                "image_size": self.student.image_size,
                "seed": self.seed,
            }
        )
