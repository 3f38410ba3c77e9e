"""What a model is made of, read off the built network; its weights play no part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from vitkd_bench.diagnose.library import (
    Built,
    OnRecord,
    build_from_open_clip,
    build_from_timm,
    build_from_transformers,
    hub_names,
)
from vitkd_bench.diagnose.likeness import Likeness, families_of, likenesses, registered
from vitkd_bench.networks import build_teacher, read_architecture
from vitkd_bench.networks.anatomy import anatomy_of, anatomy_to_read
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import Architecture, Backend, BadInputError, Teacher

LIBRARIES: dict[str, Callable[[str], Built]] = {
    "open_clip": build_from_open_clip,
    "transformers": build_from_transformers,
}


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model as it was built.

    `architecture` is None where a part has no word here; `unnamed` then says which. `teacher` is the
    registered one, if the name is one or is the source of one. `families` are those that it may be of by its
    name: several where nothing tells them apart. `likenesses` begin with the one that it is most like.
    `built` is what `backend` builds, `record` what its library says of the weights. `not_run` says why no
    teacher can be made of a class that is only described.
    """

    name: str
    backend: Backend
    architecture: Architecture | None
    unnamed: str | None
    teacher: Teacher | None
    families: tuple[str, ...]
    likenesses: tuple[Likeness, ...]
    built: str
    record: OnRecord
    not_run: str | None = None

    @property
    def family(self) -> str | None:
        """The family that it is of; None where none is known, or more than one is as likely."""
        return self.families[0] if len(self.families) == 1 else None

    @property
    def lacking(self) -> dict[str, object]:
        """What a standard student would lack: components by name, with this model's value."""
        if self.architecture is None:
            return {}
        components = self.architecture.components
        return {name: getattr(components, name) for name in components.present()}


def describe(model: str) -> ModelFacts:
    """Build a model from its configuration and read its parts off; no weights are needed or looked for.

    A name of timm or open_clip that is the source of a registered teacher is that teacher, at its contract's
    image size.

    Args:
        model: a registered teacher, a repository of the hub that one comes from, a name of timm,
            `open_clip:NAME[/TAG]`, `transformers:CLASS` (in the class's own configuration) or
            `transformers:PATH` of a `config.json`.

    Raises:
        BadInputError: no such model, or it is no Vision Transformer; with the nearest name.
        WorldError: no such file, or the library that it is of is not installed.
    """
    if model in TEACHERS.names():
        teacher = TEACHERS.get(model)
        return _of_teacher(model, teacher, teacher.sources[0].backend if teacher.sources else "official")
    prefix, colon, rest = model.partition(":")
    found = _of_hub(model, rest if colon and prefix in LIBRARIES else model, prefix if colon else None)
    if found:
        return found
    built = LIBRARIES[prefix](rest) if colon and prefix in LIBRARIES else build_from_timm(model)
    known = registered(built)
    return _of_teacher(model, known, built.backend) if known else _of_library(model, built)


def _of_hub(model: str, repository: str, backend: str | None) -> ModelFacts | None:
    """Describe the teacher that a repository of the hub is a source of, by that source.

    Raises:
        BadInputError: several teachers come from it.
    """
    from_it = [one for one in hub_names().get(repository, []) if backend in {None, one[1].backend}]
    if not from_it:
        return None
    teachers = sorted({teacher.name for teacher, _ in from_it})
    if len(teachers) > 1:
        raise BadInputError(f"model {model!r}: {', '.join(teachers)} come from it: name one of them")
    teacher, source = from_it[0]
    return _of_teacher(model, teacher, source.backend)


def _of_teacher(model: str, teacher: Teacher, backend: Backend) -> ModelFacts:
    source = None if teacher.training else teacher.source(backend)
    module = build_teacher(
        teacher, teacher.architecture, source.backend if source else None, unfilled=backend != "open_clip"
    )
    architecture, unnamed = _read(model, module)
    words = " ".join([teacher.name, *(s.model for s in teacher.sources)])
    alike = likenesses(words, architecture)
    built = source.model if source else teacher.name
    record = OnRecord(teacher.pixels, teacher.interpolation, teacher.crop, licence=teacher.licence)
    return ModelFacts(model, backend, architecture, unnamed, teacher, (teacher.family,), alike, built, record)


def _of_library(model: str, built: Built) -> ModelFacts:
    architecture, unnamed = _read(model, built.module)
    alike = likenesses(built.words, architecture)
    families = families_of(built, architecture)
    tied = len(families) > 1 and len(built.names) > 1
    named, record = (built.names[0].partition(".")[0], built.shared) if tied else (built.model, built.record)
    return ModelFacts(
        model,
        built.backend,
        architecture,
        unnamed,
        None,
        families,
        alike,
        named,
        record,
        _not_run(built.module),
    )


def _not_run(module: nn.Module) -> str | None:
    try:
        anatomy_of(module)
    except BadInputError as error:
        return str(error)
    return None


def _read(model: str, module: nn.Module) -> tuple[Architecture | None, str | None]:
    """Read the architecture off, or say which part has no word."""
    try:
        anatomy_to_read(module)
    except BadInputError as error:
        raise BadInputError(f"model {model!r}: {error}") from None
    try:
        return read_architecture(module), None
    except (BadInputError, AttributeError, ValueError) as error:
        return None, " ".join(str(error).split())
