"""The conformance kit: what holds of every teacher, ours or a stranger's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase

import torch
from torch import nn

from vitkd_bench.contracts import taps
from vitkd_bench.diagnose.parts import (
    ADDED,
    RESHAPED,
    TAKEN,
    folded,
    of_components,
    other_tensors,
    parameters_of,
    tensors_of,
)
from vitkd_bench.diagnose.verdict import TO_BE_FILLED_IN, Check, kit_check
from vitkd_bench.fetch.locations import parse_location
from vitkd_bench.networks import ViT, build_teacher, create_student, differences, read_architecture
from vitkd_bench.networks.optional import optional_package
from vitkd_bench.networks.sources import VISUAL
from vitkd_bench.networks.text_tower import text_config
from vitkd_bench.networks.unfilled import unfilled_parameters
from vitkd_bench.registry import DATASETS, METHODS, RECIPES, TEACHERS
from vitkd_bench.spec import (
    SIZES,
    Architecture,
    Backend,
    BadInputError,
    PixelStats,
    Teacher,
    VitkdError,
    WeightSource,
    nearest,
    parse_student,
    resolve_student,
)

KINDS = ("standard", "native", "native_min")


def conformance(teacher: Teacher) -> tuple[Check, ...]:
    """Run every check on one teacher, without its weights; one that fails is `refuse`, with the reason."""
    return tuple(_run(name, check, teacher) for name, check in CHECKS.items())


def _run(name: str, check: Callable[[Teacher], Iterator[str]], teacher: Teacher) -> Check:
    try:
        wrong = list(check(teacher))
    except (VitkdError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        wrong = [" ".join(str(error).split()) or type(error).__name__]
    return kit_check(name, check, wrong)


def facts_are_told(teacher: Teacher) -> Iterator[str]:
    """Name, title, paper, licence, objective and what was seen are told."""
    first, _, size = teacher.name.partition("/")
    allowed = [teacher.family, *(["micro"] if teacher.group == "micro" else [])]
    if first not in allowed or not size:
        yield f"name {teacher.name!r}: {' or '.join(f'{one}/<size>' for one in allowed)} is needed"
    gaps = [name for name, value in dict(teacher).items() if TO_BE_FILLED_IN in str(value)]
    if gaps:
        told = f" ({teacher.notes})" if "notes" in gaps else ""
        yield f"{', '.join(gaps)}: still {TO_BE_FILLED_IN}{told}"
    empty = [f for f in ("title", "paper", "licence", "objective", "seen") if not getattr(teacher, f)]
    if empty:
        yield f"{', '.join(empty)}: empty"


def contract_holds_together(teacher: Teacher) -> Iterator[str]:
    """Pixels fit the channels, weights come from one place, tokens have some sense of place."""
    channels, pixels = teacher.architecture.channels, teacher.pixels
    if not pixels.mean and not pixels.std:
        yield f"pixels: {TO_BE_FILLED_IN}, {channels} means and {channels} deviations"
    elif not len(pixels.mean) == len(pixels.std) == channels:
        yield f"pixels: {len(pixels.mean)} means, {len(pixels.std)} deviations for {channels} channels"
    if (teacher.training is None) != bool(teacher.sources):
        yield "sources: a teacher has sources, or a training that makes it, and not both"
    components = teacher.architecture.components
    if components.position == "none" and not components.relative_position_bias and components.rope == "none":
        yield "components: no position embedding of any kind"


def built_as_claimed(teacher: Teacher) -> Iterator[str]:
    """Through every backend what is built has the tensors of the claimed parts, and as many parameters."""
    offered: list[Backend | None] = [source.backend for source in teacher.sources]
    with unfilled_parameters():
        own = ViT(teacher.architecture)
    for backend in list(dict.fromkeys(offered)) or [None]:
        try:
            module = _built(teacher, backend)
        except VitkdError as error:
            yield f"{backend or 'own'}: {error}"
            continue
        wrong = other_tensors(module, own, teacher.architecture)
        if wrong:
            yield f"{backend or 'own'}: {wrong}"
        found = parameters_of(module, labels=teacher.head is not None)
        if backend == (offered or [None])[0] and teacher.parameters not in {None, found}:
            yield f"parameters: {teacher.parameters:,} claimed, {found:,} found"


def _built(teacher: Teacher, backend: Backend | None) -> nn.Module:
    """Build it without weights, as far as its parts can then be read off."""
    # open_clip keeps the initial value of a layer scale in the parameter alone
    filled = backend == "open_clip" and teacher.architecture.components.layer_scale is not None
    return build_teacher(teacher, teacher.architecture, backend, unfilled=not filled)


def natives_differ_by_components(teacher: Teacher) -> Iterator[str]:
    """The native student differs from the standard one by the tensors of the claimed components alone."""
    native, standard = (_small(resolve_student(parse_student(k), teacher.architecture)) for k in KINDS[1::-1])
    built = [create_student(at, 0, _neutral(at.channels), seed=0).module for at in (native, standard)]
    own = teacher.architecture  # what a native student has to be, whatever the resolver made of it
    claimed = {name: getattr(own.components, name) for name in teacher.native_components}
    there, plain = (folded(tensors_of(module)) for module in built)
    changed = {name for name in there.keys() & plain.keys() if there[name] != plain[name]}
    prefixed = own.prefix > 0 and own.components.position != "none"
    reshaping = {k: v for k, v in claimed.items() if k != "position_on_prefix" or prefixed}
    for what, found, wanted in (
        ("adds", there.keys() - plain.keys(), of_components(ADDED, claimed)),
        ("lacks", plain.keys() - there.keys(), of_components(TAKEN, claimed)),
        ("reshapes", changed, of_components(RESHAPED, reshaping)),
    ):
        if found != wanted:
            yield f"native student {what} {_named(found)}, its components {_named(wanted)}"
    yield from (f"native student: {t}" for t in differences(_small(own), read_architecture(built[0])))


def _named(tensors: set[str]) -> str:
    return ", ".join(sorted(tensors)) or "nothing"


def students_run(teacher: Teacher) -> Iterator[str]:
    """Standard, native and native_min students give logits, and as many attention maps as blocks."""
    for kind in KINDS:
        at = _small(resolve_student(parse_student(kind), teacher.architecture))
        student = create_student(at, 3, _neutral(at.channels), seed=0)
        last = at.size.depth - 1
        wanted = frozenset({taps.tokens(last), *(taps.attention(i) for i in range(at.size.depth))})
        pixels = torch.linspace(0, 1, 2 * at.channels * at.image_size**2)
        features = student(pixels.reshape(2, at.channels, at.image_size, at.image_size), wanted)
        shapes = {tuple(call.q.shape[:3]) for call in features.attention.values()}
        if features.logits is None or tuple(features.logits.shape) != (2, 3):
            yield f"{kind}: logits of another shape than (2, 3)"
        if len(features.attention) != at.size.depth or shapes != {(2, at.size.heads, at.tokens)}:
            yield f"{kind}: {len(features.attention)} taps of {shapes} for {at.size.depth} blocks"
        if tuple(features.tokens[last].shape) != (2, at.tokens, at.size.width):
            yield f"{kind}: tokens of another shape than (2, {at.tokens}, {at.size.width})"
        student.clear()


def can_be_made(teacher: Teacher) -> Iterator[str]:
    """What makes a micro teacher is registered and fits it; another teacher's sources are well formed."""
    yield from _sources_in_form(teacher)
    if teacher.text_encoder is not None:
        yield from _text_tower_is_known(teacher)
    training = teacher.training
    if training is None:
        return
    if METHODS.get(training.method).kind != "pretraining":
        yield f"training.method: {training.method!r} is not of kind pretraining"
    if METHODS.get(training.method).reads_teacher != (training.teacher is not None):
        yield f"training.teacher: {training.teacher!r} does not fit {training.method}"
    RECIPES.get(training.recipe)
    facts = DATASETS.get(training.dataset).facts
    if (facts.channels, facts.image_size) != (teacher.architecture.channels, teacher.architecture.image_size):
        yield f"training.dataset: {facts.channels} x {facts.image_size} px is not the teacher's"
    if teacher.pixels != facts.pixels:  # the run that makes it normalises as its data set says
        yield f"pixels: those of {training.dataset} are needed"
    head = (teacher.head.label_space, teacher.head.num_classes) if teacher.head else None
    if facts.classes and head not in {None, (facts.label_space, len(facts.classes))}:
        yield f"head: {head}, which are not the classes of {training.dataset}"
    if _waits_for_itself(teacher):
        yield f"training.teacher: {training.teacher} waits for itself"


def _sources_in_form(teacher: Teacher) -> Iterator[str]:
    """Say what keeps a source from being fetched and read: its location, its layout, what it leaves aside."""
    for i, source in enumerate(teacher.sources):
        where = f"sources[{i}]"
        if source.layout is not None:
            TEACHERS.layout(source.layout)
        if source.location is not None:
            try:
                parse_location(source.location, where)
            except BadInputError as error:
                yield str(error)
        lost = _own_keys_unused(teacher, source)
        if lost:
            yield f"{where}.unused: {lost}"


def _own_keys_unused(teacher: Teacher, source: WeightSource) -> str:
    """Name the first key of the network itself that a pattern of `unused` would leave aside."""
    if not source.unused:
        return ""
    try:
        own = _built(teacher.model_copy(update={"sources": (source,)}), source.backend).state_dict()
    except VitkdError:
        return ""  # the check of what is built says why
    prefix = VISUAL if source.backend == "open_clip" else ""  # the names in the file
    for pattern in source.unused:
        found = [name for name in own if fnmatchcase(f"{prefix}{name}", pattern)]
        if found:
            return f"{pattern!r} is also {len(found)} of the network's own keys ({prefix}{found[0]})"
    return ""


def _text_tower_is_known(teacher: Teacher) -> Iterator[str]:
    """Hold the name of the text tower against open_clip's models and the tags of their weights."""
    text_config(teacher)
    open_clip = optional_package("open_clip", "open-clip-torch", teacher)
    model, _, tag = str(teacher.text_encoder).partition(":")[2].partition("/")
    known = open_clip.list_pretrained_tags_by_model(model)
    if tag not in known:
        told = f"{nearest(tag, known)}; {model} has {', '.join(known) or 'none'}"
        yield f"text_encoder: {teacher.text_encoder!r}: no such tag{told}"


def _waits_for_itself(teacher: Teacher) -> bool:
    """Whether following the teachers that objectives read does not come to an end."""
    seen, training = [teacher.name], teacher.training
    while training is not None and training.teacher is not None:
        if training.teacher in seen:
            return True
        seen.append(training.teacher)
        training = TEACHERS.get(training.teacher).training
    return False


CHECKS: dict[str, Callable[[Teacher], Iterator[str]]] = {
    "facts": facts_are_told,
    "contract": contract_holds_together,
    "built": built_as_claimed,
    "native": natives_differ_by_components,
    "students": students_run,
    "made": can_be_made,
}


def _neutral(channels: int) -> PixelStats:
    """Statistics that change nothing: what is built does not depend on them."""
    return PixelStats(mean=(0.0,) * channels, std=(1.0,) * channels)


def _small(architecture: Architecture) -> Architecture:
    """The same network in a size that a check can run: four patches a side, three narrow blocks."""
    return architecture.with_(size=SIZES["micro_small"], image_size=4 * architecture.patch)
