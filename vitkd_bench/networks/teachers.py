"""Teachers: a network built as its contract says, checked against it, with the weights of one file."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn

from vitkd_bench.networks.anatomy import anatomy_of
from vitkd_bench.networks.build_open_clip import build_open_clip
from vitkd_bench.networks.build_timm import build_timm
from vitkd_bench.networks.build_transformers import build_transformers
from vitkd_bench.networks.components import differences, read_architecture
from vitkd_bench.networks.initialise import LawName, initialise
from vitkd_bench.networks.network import ViTNetwork
from vitkd_bench.networks.sources import named_for
from vitkd_bench.networks.unfilled import unfilled_parameters
from vitkd_bench.networks.vit import ViT
from vitkd_bench.networks.weights import StoredWeights, misfit, read_weights
from vitkd_bench.spec import Architecture, Backend, BadInputError, Teacher, WeightSource

BUILDERS: dict[Backend, Callable[[Teacher, WeightSource, Architecture], nn.Module]] = {
    "timm": build_timm,
    "official": build_timm,
    "open_clip": build_open_clip,
    "transformers": build_transformers,
}


def load_teacher(
    teacher: Teacher, architecture: Architecture, weights: Path, backend: Backend | None = None
) -> ViTNetwork:
    """Build a teacher and load its weights: frozen, in eval mode, on the CPU, float32.

    Every tensor of the file must find its place and every place its tensor. Brought into line first: names
    (by the source's backend or layout), what the source calls unused, a head that the contract does not
    claim, and position tables, which are resampled to the grid of `architecture` as the contract's
    `position_interpolation` says. `source` of the network tells by which way it came.

    Args:
        teacher: the contract.
        architecture: the contract's own at the image size at which the teacher is used.
        weights: safetensors of any floating type, a torch checkpoint, or an .npz archive; or a folder with
            one, in shards or whole.
        backend: which of the contract's sources builds the network; None takes the first that the names and
            shapes of the file fit.

    Raises:
        BadInputError: what was built is not what the contract claims (the component is named), or the weights
            fit none of its sources (the keys are named), or they hold code.
        WorldError: no such file, or a library is missing. DamagedFileError: the file cannot be read.
    """
    stored = read_weights(weights)
    where = f"teacher {teacher.name!r}: weights {weights}"
    source, module = _fitting(teacher, architecture, stored, backend, where)
    tensors = named_for(module, stored, teacher, source, architecture, where)
    module.load_state_dict(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, strict=True, assign=True
    )
    return ViTNetwork(module, architecture, teacher.pixels, frozen=True, source=source)


def draw_teacher(teacher: Teacher, architecture: Architecture, seed: int, law: LawName) -> ViTNetwork:
    """Build a teacher of random weights, its head included: frozen, in eval mode, on the CPU, float32.

    It is our own network of that architecture, drawn by a law of students (`networks.initialise`), and pools
    as these do.
    """
    classes = teacher.head.num_classes if teacher.head else 0
    with torch.random.fork_rng(devices=[]):  # torch's constructors draw weights that the law then replaces
        vit = ViT(architecture, classes)
    initialise(vit, seed, law)
    return ViTNetwork(vit, architecture, teacher.pixels, frozen=True)


def build_teacher(
    teacher: Teacher, architecture: Architecture, backend: Backend | None = None, *, unfilled: bool = False
) -> nn.Module:
    """Build the bare network of a teacher, without its weights, and compare it with the contract.

    Its parameters are random, or with `unfilled` on the meta device: enough to be read, and quick.

    Raises:
        BadInputError: an unknown model, a part that is not as claimed, or a head that it does not have.
        WorldError: the library of the backend is not installed.
    """
    source = None if teacher.training else teacher.source(backend)
    return _built(teacher, source, architecture, unfilled=unfilled)


def _built(
    teacher: Teacher, source: WeightSource | None, architecture: Architecture, *, unfilled: bool
) -> nn.Module:
    classes = teacher.head.num_classes if teacher.head else 0
    with torch.random.fork_rng(devices=[]), unfilled_parameters() if unfilled else nullcontext():
        if source is None:
            module: nn.Module = ViT(architecture, classes)
        else:
            module = BUILDERS[source.backend](teacher, source, architecture)
    wrong = differences(architecture, read_architecture(module))
    head = anatomy_of(module).head_of(module)
    outputs = head.out_features if isinstance(head, nn.Linear) else 0
    if outputs != classes:
        wrong.append(f"head: {classes} classes claimed, {outputs} found")
    if wrong:
        raise BadInputError(f"teacher {teacher.name!r}: not what its contract says: {'; '.join(wrong)}")
    return module


def _fitting(
    teacher: Teacher, architecture: Architecture, stored: StoredWeights, backend: Backend | None, where: str
) -> tuple[WeightSource | None, nn.Module]:
    """Find the source whose network the names and shapes of a file fit, and build it, unfilled.

    Raises:
        BadInputError: none fits. What keeps the first from it is said, the others are named.
    """
    if teacher.training:
        sources: list[WeightSource | None] = [None]
    else:
        first = teacher.source(backend)  # refuses a backend that does not offer it
        others = [s for s in teacher.sources if s is not first and backend in {None, s.backend}]
        sources = [first, *others]
    reasons = []
    for source in sources:
        module = _built(teacher, source, architecture, unfilled=True)
        reason = _misfit(module, stored, teacher, source, architecture, where)
        if not reason:
            return source, module
        reasons.append(reason)
    others_too = ", ".join(f"{s.backend} ({s.layout or s.model})" for s in sources[1:] if s is not None)
    beside = f"; nor those of {others_too}" if others_too else ""
    raise BadInputError(f"{where}: the weights do not fit this network: {reasons[0]}{beside}")


def _misfit(
    module: nn.Module,
    stored: StoredWeights,
    teacher: Teacher,
    source: WeightSource | None,
    architecture: Architecture,
    where: str,
) -> str:
    try:
        given = named_for(module, stored.shapes, teacher, source, architecture, where)
    except BadInputError as error:
        return str(error).removeprefix(f"{where}: ")
    head = anatomy_of(module).head
    if teacher.head and head and not any(name.startswith(f"{head}.") for name in given):
        own = {name: tensor for name, tensor in module.state_dict().items() if name.startswith(f"{head}.")}
        other = misfit(module, {**given, **own})
        if other:  # another network, and not this one without its head
            return other
        return (
            f"no {head}.weight in the file, but the contract claims one of {teacher.head.num_classes} "
            f"classes ({teacher.head.label_space})"
        )
    return misfit(module, given)
