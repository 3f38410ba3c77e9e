"""Models of timm, open_clip and transformers by their names there, and what is on record of their weights."""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from vitkd_bench.networks.unfilled import unfilled_parameters
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import Backend, BadInputError, PixelStats, Teacher, WeightSource, WorldError, nearest

Interpolation = Literal["bicubic", "bilinear"]
RESAMPLING: dict[int, Interpolation] = {
    2: "bilinear",
    3: "bicubic",
}  # PIL's numbers in preprocessor_config.json
PREPROCESSOR = "preprocessor_config.json"
ENCODERS = {"vit_mae": "ViTModel"}  # by model_type; a class for pretraining leaves patches out at random
TEXTS = (  # keys of open_clip's whole models for which a vision tower has no place
    "text.*",
    "transformer.*",
    "token_embedding.*",
    "positional_embedding",
    "ln_final.*",
    "text_projection",
    "logit_scale",
    "logit_bias",
    "visual.proj",
    "visual.head.*",
)


@dataclass(frozen=True, slots=True)
class OnRecord:
    """What a library has on record of a model's weights; None and nothing where it says nothing.

    `crop` is the part of the resized image that is kept, `squeezed` says that the image is brought to the
    square without one. `location` and `unused` are those of a `WeightSource`.
    """

    pixels: PixelStats | None = None
    interpolation: Interpolation | None = None
    crop: float | None = None
    squeezed: bool = False
    location: str | None = None
    unused: tuple[str, ...] = ()
    licence: str | None = None

    def missing(self) -> tuple[str, ...]:
        """Name the fields of a contract that a person has to fill in."""
        return tuple(n for n in ("pixels", "interpolation", "crop") if getattr(self, n) is None)


@dataclass(frozen=True, slots=True)
class Built:
    """A model built without weights: by which library, under which name, and what is told of it.

    `model` is what a `WeightSource` would call it, `asked` the name that was given, `words` where its family
    may be named. `names` are those of all weights that it may be of: several for a name without a tag, which
    `shared` has in common; `record` is that of the ones that the library takes by default.
    """

    module: nn.Module
    backend: Backend
    model: str
    asked: str
    words: str
    record: OnRecord
    names: tuple[str, ...]
    shared: OnRecord


def build_from_timm(name: str) -> Built:
    """Build `ARCHITECTURE[.TAG]`; without a tag it is the one that timm takes by default.

    Raises:
        BadInputError: timm knows no such model or tag; with the nearest name.
    """
    import timm

    known, (architecture, _, tag) = timm.list_models(), name.partition(".")
    if architecture not in known:
        near = nearest(name, [*TEACHERS.names(), *hub_names(), *known])
        raise BadInputError(
            f"model {name!r}: neither a teacher, nor a source of one, nor a model of timm{near}"
        )
    tags = [one.partition(".")[2] for one in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise BadInputError(f"model {name!r}: timm has no weights {tag!r} of it{nearest(tag, tags)}")
    stem = timm.models.get_pretrained_cfg(name)
    if stem is not None and "backbone" in str(stem.first_conv):
        raise BadInputError(
            f"model {name!r}: a hybrid: its patches come from a convolutional network; what is known "
            "here are Vision Transformers that cut them by one convolution"
        )
    module = _of_timm_without_weights(name)
    config = dict(module.pretrained_cfg)
    full = f"{architecture}.{config['tag']}" if config.get("tag") else architecture
    record = _of_timm(config)
    if tag or len(tags) < 2:
        return Built(module, "timm", full, name, name, record, (full,), record)
    names = tuple(f"{architecture}.{one}" for one in tags)
    shared = agreed([_of_timm(timm.models.get_pretrained_cfg(one).to_dict()) for one in names])
    return Built(module, "timm", full, name, name, record, names, shared)


def _of_timm_without_weights(name: str) -> Any:
    """Build a model on the meta device, or filled where a part of it computes with values as it is built."""
    import timm

    with torch.random.fork_rng(devices=[]):
        try:
            with unfilled_parameters():
                return timm.create_model(name, pretrained=False, num_classes=0)
        except RuntimeError:  # rotations that are drawn, for one
            return timm.create_model(name, pretrained=False, num_classes=0)


def _of_timm(config: Mapping[str, Any]) -> OnRecord:
    hub, way = config.get("hf_hub_id"), config.get("interpolation")
    file = config.get("hf_hub_filename") or "model.safetensors"
    squeezed = config.get("crop_mode") == "squash"
    return OnRecord(
        pixels=_pixels(config.get("mean"), config.get("std")),
        interpolation=way if way in RESAMPLING.values() else None,
        crop=1.0 if squeezed else config.get("crop_pct"),
        squeezed=squeezed,
        location=f"hf://{hub}/{file}" if hub else None,
        licence=config.get("license"),
    )


def build_from_open_clip(name: str) -> Built:
    """Build the vision tower of `MODEL[/TAG]`; without a tag, what all its tags share is on record.

    Raises:
        BadInputError: open_clip knows no such model or tag; with the nearest name.
        WorldError: open_clip is not installed.
    """
    library, (model, _, tag) = _library("open_clip"), name.partition("/")
    config = library.get_model_config(model)
    if config is None:
        raise BadInputError(f"model 'open_clip:{name}': no such model{nearest(model, library.list_models())}")
    tags = library.pretrained.list_pretrained_tags_by_model(model)
    if tag and tag not in tags:
        raise BadInputError(f"model 'open_clip:{name}': no weights {tag!r} of it{nearest(tag, tags)}")
    vision = library.CLIPVisionCfg(**config["vision_cfg"])
    # on a real device: open_clip keeps the initial value of a layer scale in the parameter alone
    with torch.random.fork_rng(devices=[]):
        tower: Any = library.model._build_vision_tower(  # noqa: SLF001 - the model builds it with a text tower
            config["embed_dim"], vision, quick_gelu=bool(config.get("quick_gelu"))
        )
    asked = {one: library.pretrained.get_pretrained_cfg(model, one) for one in ([tag] if tag else tags)}
    record = agreed([_of_open_clip(one) for one in asked.values()]) if asked else OnRecord(unused=TEXTS)
    # of the names of open_clip few say CLIP, but its repositories do, as timm's names do
    names = tuple(f"{model}/{one} {config.get('hf_hub') or ''}" for one, config in asked.items()) or (name,)
    words = names[0] if tag else name
    return Built(tower, "open_clip", model, name, words, record, names, record)


def _of_open_clip(tag: Mapping[str, Any]) -> OnRecord:
    way, mode = tag.get("interpolation"), tag.get("resize_mode")
    repository, file = os.path.split(tag.get("hf_hub") or "")
    return OnRecord(
        pixels=_pixels(tag.get("mean"), tag.get("std")),
        interpolation=way if way in RESAMPLING.values() else None,
        crop=1.0 if mode in {"shortest", "squash"} else None,
        squeezed=mode == "squash",
        location=f"hf://{repository}/{file or 'open_clip_model.safetensors'}" if repository else None,
        unused=TEXTS,
    )


def agreed(records: Sequence[OnRecord]) -> OnRecord:
    """Keep what all of several records say; nothing is taken from one of them alone."""
    empty = OnRecord()
    kept = {
        field.name: getattr(records[0], field.name)
        if len({getattr(record, field.name) for record in records}) == 1
        else getattr(empty, field.name)
        for field in fields(OnRecord)
    }
    return OnRecord(**kept)


def build_from_transformers(name: str) -> Built:
    """Build `CLASS` in its own configuration, or the model of a `config.json` or of a folder that has one.

    What is done with images is taken from a `preprocessor_config.json` beside it.

    Raises:
        BadInputError: no class of transformers, or a configuration of none; with the nearest name.
        WorldError: no such file, or transformers is not installed.
    """
    library = _library("transformers")
    built, config, folder = _configured(library, name)
    kind = f"{built.__name__} {config.model_type}"
    if config.model_type in ENCODERS:
        built, config = _encoder(library, config)
    pooler = (
        {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(built).parameters else {}
    )
    if pooler and getattr(config, "use_mean_pooling", False):
        pooler = {}
    with _configuration(name), torch.random.fork_rng(devices=[]), unfilled_parameters():
        module: nn.Module = built(config, **pooler)
    words = f"{kind} {getattr(config, '_name_or_path', '')}"
    record = _of_preprocessor(folder / PREPROCESSOR) if folder else OnRecord()
    return Built(module, "transformers", built.__name__, name, words, record, (kind,), record)


@contextmanager
def _configuration(name: str) -> Iterator[None]:
    """Say in one line which value of a configuration transformers does not take."""
    from huggingface_hub.errors import StrictDataclassError

    try:
        yield
    except (StrictDataclassError, ValueError, TypeError, AttributeError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise BadInputError(
            f"model 'transformers:{name}': transformers refuses its configuration: {reason}"
        ) from None


def _configured(library: Any, name: str) -> tuple[Any, Any, Path | None]:
    """Find class, configuration and folder: of a `config.json`, or of a class by its name."""
    where = f"model 'transformers:{name}'"
    path = Path(name)
    if path.suffix == ".json" or path.exists():
        file = path / "config.json" if path.is_dir() else path
        found = _read(file, where)
        kind = library.models.auto.configuration_auto.CONFIG_MAPPING
        model_type = found.get("model_type")
        if not isinstance(model_type, str):
            raise BadInputError(
                f"{where}: {file.name} has no model_type, which names the network, such as 'vit' or 'dinov2'"
            )
        if model_type not in kind:
            raise BadInputError(f"{where}: model_type {model_type!r}{nearest(model_type, kind.keys())}")
        with _configuration(name):
            config = kind[model_type].from_dict(found)
        return *_tower(library, getattr(config, "vision_config", config), where), file.parent
    built: Any = getattr(library, name, None)
    if getattr(built, "config_class", None) is None:
        known = [n for n in dir(library) if n.endswith(("Model", "ForImageClassification"))]
        raise BadInputError(
            f"{where}: neither a file nor a class of transformers{nearest(name, [*hub_names(), *known])}"
        )
    with _configuration(name):
        config = built.config_class()
    vision = getattr(config, "vision_config", None)
    return (built, config, None) if vision is None else (*_tower(library, vision, where), None)


def _tower(library: Any, config: Any, where: str) -> tuple[Any, Any]:
    """Find the class of a configuration: of the vision tower, where a model of images and texts has one.

    Raises:
        BadInputError: transformers has no class for it alone.
    """
    if type(config) not in library.MODEL_MAPPING:
        raise BadInputError(
            f"{where}: {type(config).__name__} has no model of its own: name a vision model, such as "
            "CLIPVisionModel"
        )
    return library.MODEL_MAPPING[type(config)], config


def _encoder(library: Any, config: Any) -> tuple[Any, Any]:
    """Give the class and configuration that compute what a pretraining model's encoder does, unmasked."""
    built = getattr(library, ENCODERS[config.model_type])
    fields = built.config_class().to_dict().keys() & config.to_dict().keys() - {"model_type"}
    return built, built.config_class(**{name: getattr(config, name) for name in fields})


def hub_names() -> dict[str, list[tuple[Teacher, WeightSource]]]:
    """List the repositories of the hub that registered teachers come from, with whose sources they are."""
    found: dict[str, list[tuple[Teacher, WeightSource]]] = {}
    for teacher in TEACHERS:
        for source in teacher.sources:
            place = re.match(r"hf://([^/]+/[^/@]+)", source.location or "")
            if place:
                found.setdefault(place[1], []).append((teacher, source))
    return found


def _of_preprocessor(path: Path) -> OnRecord:
    """Read what transformers does with images; nothing where there is no such file."""
    if not path.is_file():
        return OnRecord()
    told = _read(path, f"images {path}")
    scale = told.get("rescale_factor", 1 / 255)
    scaled = told.get("do_rescale", True) and isinstance(scale, float) and abs(255 * scale - 1) < 1e-3
    mean, std = told.get("image_mean"), told.get("image_std")
    if told.get("do_normalize") is False:
        mean, std = [0.0] * 3, [1.0] * 3
    short, kept = _length(told.get("size")), _length(told.get("crop_size"))
    cropped = told.get("do_center_crop", "crop_size" in told)
    crop = kept / short if cropped and short and kept else 1.0 if short and not cropped else None
    return OnRecord(
        pixels=_pixels(mean, std) if scaled else None,
        interpolation=RESAMPLING.get(told.get("resample", -1)),
        crop=crop if crop is None or 0 < crop <= 1 else None,
        squeezed=isinstance(told.get("size"), dict) and "height" in told["size"] and not cropped,
    )


def _length(size: object) -> float | None:
    """Take a side in pixels from a number, or from `{"shortest_edge": n}` or `{"height": n, "width": n}`."""
    if isinstance(size, dict):
        size = size.get("shortest_edge", size.get("height"))
    return float(size) if isinstance(size, int | float) and size > 0 else None


def _pixels(mean: object, std: object) -> PixelStats | None:
    """Make statistics of what a file says, or nothing of what is no such thing."""
    lists = [list(values) if isinstance(values, Iterable) else [] for values in (mean, std)]
    fit = len(lists[0]) == len(lists[1]) > 0 and all(
        isinstance(value, int | float) for values in lists for value in values
    )
    return PixelStats(mean=tuple(map(float, lists[0])), std=tuple(map(float, lists[1]))) if fit else None


def _library(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError as error:
        raise WorldError(f"{name} is not installed ({error}): pip install 'vitkd-bench[hub]'") from None


def _read(path: Path, where: str) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        there = sorted(file.name for file in path.parent.glob("*.json"))
        instead = nearest(path.name, there) if there else "; give a config.json, its folder, or a class name"
        raise WorldError(f"{where}: no such file: {path}{instead}") from None
    except OSError as error:
        raise WorldError(f"{where}: {path}: {error.strerror}: give a config.json that can be read") from None
    except ValueError as error:
        reason = re.sub(r"\s+", " ", str(error))
        raise WorldError(
            f"{where}: cannot be read as JSON ({reason}): mend {path.name} or get it again"
        ) from None
    if not isinstance(data, dict):
        raise BadInputError(
            f"{where}: not a configuration but a {type(data).__name__}: a config.json is needed"
        )
    return data
