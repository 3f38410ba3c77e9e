"""What a model is made of, read off the built network; its weights play no part."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vitkd_bench.networks import build_teacher, read_architecture
from vitkd_bench.networks.anatomy import anatomy_of
from vitkd_bench.networks.unfilled import unfilled_parameters
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import (
    IMAGENET_PIXELS,
    OPENAI_PIXELS,
    Architecture,
    Backend,
    BadInputError,
    Components,
    PixelStats,
    Teacher,
    WorldError,
    nearest,
)

OTHER = ("open_clip", "transformers")
MOST_FAMILIES = 3  # that a word may be of and still tell something
CLEAR = 0.5  # weight of the words from which on they name a family
SIZE_WORDS = {"tiny", "small", "medium", "base", "large", "huge", "giant", "gigantic", "vit", "xlarge"}


@dataclass(frozen=True, slots=True)
class Likeness:
    """A family of the registry that a model is like: by words of its `name`, by its `parts`, or both.

    `weight` counts its words, one that speaks for n families as 1 / n.
    """

    family: str
    name: tuple[str, ...] = ()
    parts: bool = False
    weight: float = 0.0

    @property
    def reason(self) -> str:
        """Say it as people read it."""
        named = f"its name has {', '.join(self.name)}" if self.name else ""
        return "; ".join(filter(None, (named, "it has the same components" if self.parts else "")))


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model as it was built.

    `architecture` is None where a part has no word here; `unnamed` then says which. `teacher` is the
    registered one, if the name is one. `likenesses` begin with the family that it most likely is of. `built`
    is what `backend` builds, `pixels` what its library says of them (ImageNet's where it says nothing).
    """

    name: str
    backend: Backend
    architecture: Architecture | None
    unnamed: str | None
    teacher: Teacher | None
    likenesses: tuple[Likeness, ...]
    built: str
    pixels: PixelStats

    @property
    def family(self) -> str | None:
        """The family that it is of: its own, or the one that its name says, with its parts if two are said.

        Parts alone are no family: five families of the registry are plain ViTs.
        """
        if self.teacher:
            return self.teacher.family
        said = [like for like in self.likenesses if like.weight >= CLEAR]
        best = [like for like in said if (like.weight, like.parts) == (said[0].weight, said[0].parts)]
        return best[0].family if len(best) == 1 else None

    @property
    def lacking(self) -> dict[str, object]:
        """What a standard student would lack: components by name, with this model's value."""
        if self.architecture is None:
            return {}
        components = self.architecture.components
        return {name: getattr(components, name) for name in components.present()}


def describe(model: str) -> ModelFacts:
    """Build a model from its configuration and read its parts off; no weights are needed or looked for.

    Args:
        model: a registered teacher, a name of timm, `open_clip:NAME`, `transformers:CLASS` (in the class's
            own configuration) or `transformers:PATH` of a `config.json`.

    Raises:
        BadInputError: no such model, or it is no Vision Transformer; with the nearest name.
        WorldError: the library that it is of is not installed.
    """
    prefix, colon, rest = model.partition(":")
    if colon and prefix in OTHER:
        module = _open_clip(rest) if prefix == "open_clip" else _transformers(rest)
        return _facts(model, "open_clip" if prefix == "open_clip" else "transformers", module, None)
    if model in TEACHERS.names():
        teacher = TEACHERS.get(model)
        backend: Backend = teacher.sources[0].backend if teacher.sources else "official"
        return _facts(model, backend, build_teacher(teacher, teacher.architecture, unfilled=True), teacher)
    return _facts(model, "timm", _timm(model), None)


def _facts(model: str, backend: Backend, module: nn.Module, teacher: Teacher | None) -> ModelFacts:
    architecture, unnamed = None, None
    try:
        anatomy_of(module)
    except BadInputError as error:
        raise BadInputError(f"model {model!r}: {error}") from None
    try:
        architecture = read_architecture(module)
    except (BadInputError, AttributeError, ValueError) as error:
        unnamed = " ".join(str(error).split())
    words = model.partition(":")[2] or model
    words = words if teacher is None else " ".join([words, *(s.model for s in teacher.sources)])
    config: Any = getattr(module, "config", None)
    words += f" {config.model_type}" if config is not None and hasattr(config, "model_type") else ""
    own = model.partition(":")[2] or model
    built = type(module).__name__ if backend == "transformers" else own
    alike = likenesses(words, architecture)
    return ModelFacts(model, backend, architecture, unnamed, teacher, alike, built, _pixels(backend, module))


def _pixels(backend: Backend, module: nn.Module) -> PixelStats:
    if backend == "open_clip":
        return OPENAI_PIXELS
    told: Any = getattr(module, "pretrained_cfg", None) or {}
    if "mean" not in told or "std" not in told:
        return IMAGENET_PIXELS
    return PixelStats(mean=tuple(told["mean"]), std=tuple(told["std"]))


def _timm(name: str) -> nn.Module:
    import timm

    known = timm.list_models()
    if name.partition(".")[0] not in known:
        raise BadInputError(f"model {name!r}: neither a teacher nor a model of timm{_near(name, known)}")
    with torch.random.fork_rng(devices=[]), unfilled_parameters():
        module: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    return module


def _near(name: str, known: Iterable[str]) -> str:
    return nearest(name, [*TEACHERS.names(), *known])


def _library(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError as error:
        raise WorldError(f"{name} is not installed ({error}): pip install 'vitkd-bench[hub]'") from None


def _open_clip(name: str) -> nn.Module:
    library = _library("open_clip")
    config = library.get_model_config(name)
    if config is None:
        raise BadInputError(f"model 'open_clip:{name}': no such model{nearest(name, library.list_models())}")
    vision = library.CLIPVisionCfg(**config["vision_cfg"])
    # on a real device: open_clip keeps the initial value of a layer scale in the parameter alone
    with torch.random.fork_rng(devices=[]):
        tower: Any = library.model._build_vision_tower(  # noqa: SLF001 - the model builds it with a text tower
            config["embed_dim"], vision, quick_gelu=bool(config.get("quick_gelu"))
        )
    module: nn.Module = tower
    return module


def _transformers(name: str) -> nn.Module:
    library = _library("transformers")
    built, config = _configured(library, name)
    config = getattr(config, "vision_config", config)
    pooler = (
        {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(built).parameters else {}
    )
    if pooler and getattr(config, "use_mean_pooling", False):
        pooler = {}
    with torch.random.fork_rng(devices=[]), unfilled_parameters():
        module: nn.Module = built(config, **pooler)
    return module


def _configured(library: Any, name: str) -> tuple[Any, Any]:
    """Find class and configuration: of a `config.json`, or of a class by its name."""
    where = f"model 'transformers:{name}'"
    path = Path(name)
    if path.suffix == ".json" or path.exists():
        found = _read(path / "config.json" if path.is_dir() else path, where)
        named = [str(c) for c in found.get("architectures") or ()] or [f"{found.get('model_type')} model"]
        kind = library.models.auto.configuration_auto.CONFIG_MAPPING
        if found.get("model_type") not in kind:
            raise BadInputError(
                f"{where}: model_type {found.get('model_type')!r}{nearest(named[0], kind.keys())}"
            )
        config = kind[found["model_type"]].from_dict(found)
        vision = getattr(config, "vision_config", config)
        mapping = library.MODEL_MAPPING
        if type(vision) not in mapping:
            raise BadInputError(f"{where}: {type(vision).__name__} has no model of its own")
        return mapping[type(vision)], vision
    built: Any = getattr(library, name, None)
    if getattr(built, "config_class", None) is None:
        known = [n for n in dir(library) if n.endswith(("Model", "ForImageClassification"))]
        raise BadInputError(f"{where}: neither a file nor a class of transformers{nearest(name, known)}")
    return built, built.config_class()


def _read(path: Path, where: str) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WorldError(f"{where}: cannot be read as JSON: {error}") from None
    if not isinstance(data, dict):
        raise BadInputError(f"{where}: not a configuration: {type(data).__name__}")
    return data


def likenesses(words: str, architecture: Architecture | None) -> tuple[Likeness, ...]:
    """Find the registered families that a model is like, the likeliest first.

    A word of a name speaks for the families whose own names and sources have it, the more the fewer they are,
    so that nothing is listed by hand. Parts are alike where components and kind of prefix are the same.
    """
    own, families = _words(words), _families()
    alike = {t.family for t in TEACHERS if architecture and _same_parts(t.architecture, architecture)}
    found = []
    for family in sorted(families):
        shared = {w: sum(w in other for other in families.values()) for w in own & families[family]}
        telling = tuple(sorted(word for word, count in shared.items() if count <= MOST_FAMILIES))
        if telling or family in alike:
            weight = sum(1 / shared[word] for word in telling)
            found.append(Likeness(family, telling, family in alike, round(weight, 3)))
    return tuple(sorted(found, key=lambda like: (-like.weight, not like.parts)))


def _families() -> dict[str, set[str]]:
    """Words of each family: of its name, and of its sources' models where these are no names of classes."""
    families: dict[str, set[str]] = {}
    for teacher in TEACHERS:
        names = [source.model for source in teacher.sources if source.backend != "transformers"]
        families.setdefault(teacher.family, set()).update(*map(_words, (teacher.family, *names)))
    return families


def _words(text: str) -> set[str]:
    """Split a name at punctuation; what says a size is no word."""
    words = {word for word in re.split(r"[^a-z0-9]+", text.lower()) if len(word) > 1}
    return {word for word in words - SIZE_WORDS if not re.fullmatch(r"(patch|b|l|s|h)?[0-9]+", word)}


def _same_parts(one: Architecture, other: Architecture) -> bool:
    return (one.class_token, bool(one.registers), _parts(one.components)) == (
        other.class_token,
        bool(other.registers),
        _parts(other.components),
    )


def _parts(components: Components) -> tuple[tuple[str, object], ...]:
    """Components with their values; of layer scale only that it is there."""
    return tuple((n, n if n == "layer_scale" else getattr(components, n)) for n in components.present())
