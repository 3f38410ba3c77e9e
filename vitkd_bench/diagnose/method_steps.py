"""What a method does in a step: whom it trains, what it keeps, what it reads, what it relates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from vitkd_bench.contracts import Batch, Features, Method
from vitkd_bench.contracts.taps import LOGITS
from vitkd_bench.diagnose.method_bench import Bench, losses, picked, take_step, tensors_held
from vitkd_bench.engine.trainee import Trainee
from vitkd_bench.spec import in_words

SAME = 1e-6
"""Gradients that differ by less, relative to the largest, are the same."""


def student_learns(bench: Bench) -> Iterator[str]:
    """The student gets gradients and moves, and the teacher stays as it was to the last bit."""
    trainee = bench.begun()
    teacher, before = bench.teacher, _state(bench.untouched_teacher())
    start = [parameter.detach().clone() for parameter in trainee.network.parameters()]
    for number in range(2):
        bench.step(trainee, number)
    own = list(trainee.network.parameters())
    reached = [p for p in own if p.grad is not None and bool(p.grad.any())]
    if not reached or all(torch.equal(a, b) for a, b in zip(start, own, strict=True)):
        yield "no parameter of the student gets a gradient in two steps"
    changed = [name for name, tensor in _state(teacher).items() if not torch.equal(tensor, before[name])]
    if changed:
        yield f"the teacher is changed: {', '.join(changed[:3])}"
    if teacher is not None and (teacher.training or any(p.requires_grad for p in teacher.parameters())):
        yield "the teacher is no longer frozen"


def _state(network: nn.Module | None) -> dict[str, Tensor]:
    return {} if network is None else {k: v.clone() for k, v in network.state_dict().items()}


def own_parameters_train(bench: Bench) -> Iterator[str]:
    """`parameters` is needed by a method that has some; all are in the optimiser from step one and learn."""
    trainee = bench.begun()
    plain = {name for name, _ in bench.setting.fresh(bench.run).network.named_parameters()}
    own = _parameters(trainee, plain)
    if bool(own) != ("parameters" in bench.needs):
        names = ", ".join(list(own)[:3])
        yield (
            f"needs=({'parameters'!r},) is not said, and it trains {names}"
            if own
            else ("needs names parameters, and it has none")
        )
    optimised = {id(p) for group in _groups(trainee) for p in group["params"]}
    yield from (f"{name} is not in the optimiser" for name, p in own.items() if id(p) not in optimised)
    moved: set[str] = set()
    for number in range(2):
        bench.step(trainee, number)
        moved |= {name for name, p in own.items() if p.grad is not None and bool(p.grad.any())}
    yield from (f"{name} gets no gradient in two steps" for name in own if name not in moved)
    now = _parameters(trainee, plain)
    if late := ", ".join(name for name in now if name not in own):
        yield f"made after the optimiser: {late}"
    yield from _hidden(bench, trainee, {id(p) for p in now.values()})


def _groups(trainee: Trainee) -> list[dict[str, Any]]:
    return [] if trainee.optimiser is None else trainee.optimiser.param_groups


def _parameters(trainee: Trainee, plain: set[str]) -> dict[str, nn.Parameter]:
    """Give what the method trains beside the student that was drawn, in itself or added to the student."""
    added = {name: p for name, p in trainee.network.named_parameters() if name not in plain}
    method = trainee.method
    held = dict(method.named_parameters()) if isinstance(method, nn.Module) else {}
    return {name: p for name, p in {**added, **held}.items() if p.requires_grad}


def _hidden(bench: Bench, trainee: Trainee, known: set[int]) -> Iterator[str]:
    """Name the attributes that hold something trainable that nobody trains."""
    networks = [trainee.network, *([bench.teacher] if bench.teacher is not None else [])]
    known = known | {id(p) for network in networks for p in network.parameters()}
    for name, value in _attributes(trainee.method):
        if any(trains and id(tensor) not in known for tensor, trains in tensors_held(value)):
            yield f"self.{name} holds parameters that are not registered: no optimiser has them"


def _attributes(method: Method) -> Iterator[tuple[str, Any]]:
    for name, value in vars(method).items():
        if isinstance(value, Method) and not isinstance(value, nn.Module):
            yield from ((f"{name}.{inner}", held) for inner, held in _attributes(value))
        elif name not in {"_parameters", "_buffers", "_modules"}:
            yield name, value


def memory_is_told(bench: Bench) -> Iterator[str]:
    """`memory` is needed by a method whose buffers grow with the training set, and by no other."""
    cell = bench.begun().cell
    sizes = []
    for count in (cell.train_size, 2 * cell.train_size):
        larger = replace(cell, train_size=count)
        method = Trainee(bench.run, larger, bench.setting.num_classes, torch.device("cpu")).method
        buffers = method.buffers() if isinstance(method, nn.Module) else ()
        sizes.append(sum(buffer.numel() for buffer in buffers))
    if (sizes[1] > sizes[0]) != ("memory" in bench.needs):
        grown = f"its buffers hold {sizes[0]} numbers, and {sizes[1]} for twice the images"
        yield f"needs {'names memory' if sizes[1] == sizes[0] else 'does not name memory'}: {grown}"


def batch_is_told(bench: Bench) -> Iterator[str]:
    """`batch` is needed by a method for which one sample's gradient depends on another image of the batch."""
    batch = replace(bench.batch(1), progress=0.5)
    others = [view.clone() for view in (batch.pixels, *batch.views)]
    for view in others:
        view[0] = 1 - view[0]
    changed = replace(batch, pixels=others[0], views=tuple(others[1:]))
    one, other = (_pixel_gradients(bench, each)[1:] for each in (batch, changed))
    relates = bool((one - other).abs().max() > SAME * one.abs().max())
    if relates and "batch" not in bench.needs:
        yield "needs does not name batch, and an image changes the gradient of the others in its batch"
    if not relates and "batch" in bench.needs:
        yield "needs names batch, and no image changes the gradient of the others in its batch"


def _pixel_gradients(bench: Bench, batch: Batch) -> Tensor:
    """Differentiate the loss of the second step: what the first batch settles for good is settled."""
    trainee = bench.begun()
    bench.step(trainee, 0)
    pixels = batch.pixels.clone().requires_grad_()
    parts = losses(trainee, bench.read(trainee, batch), replace(batch, pixels=pixels))
    (gradient,) = torch.autograd.grad(torch.stack(list(parts.values())).sum(), pixels)
    trainee.network.clear()
    return gradient


def taps_are_read(bench: Bench) -> Iterator[str]:
    """It reads every tap that it names, no other, and runs the teacher for no more."""
    batch = bench.batch(0)
    trainee = bench.begun()
    theirs, ours = trainee.method.teacher_taps(), trainee.method.student_taps()
    everything = bench.everything(batch)
    shared = everything is not None and bool(theirs) and not bench.reads_alone
    named = picked(everything, theirs.__contains__) if everything is not None and shared else None
    own = _values(trainee, named, batch)
    yield from (
        f"teacher tap {tap!r} is named and not read"
        for tap in sorted(theirs)
        if named is not None and _outcome(bench, picked(named, tap.__ne__), batch) == own
    )
    yield from (
        f"student tap {tap!r} is named and not read"
        for tap in sorted(ours)
        if _outcome(bench, named, batch, student_lacks=tap) == own
    )
    if not bench.reads_alone:
        more = own if everything is None else _outcome(bench, everything, batch)
        if more != own:
            yield f"its loss is another where the teacher gives more than it names ({more} for {own})"
        if _teacher_forwards(bench, batch, named):
            yield "it runs the teacher in a step by itself, beside what its taps name"
    yield from _teacher_is_told(bench, theirs)


def _teacher_is_told(bench: Bench, theirs: frozenset[str]) -> Iterator[str]:
    entry = bench.entry
    if ("logits" in bench.needs) != (LOGITS in theirs) and bench.run.teacher is not None:
        made = bench.run.teacher.preparation is not None and (LOGITS in theirs or not entry.reads_teacher)
        if not made:
            says, does = ("names logits", "does not") if LOGITS not in theirs else ("does not", "does")
            yield f"needs {says}, and the method {does} read the teacher's logits"
    reads = bool(theirs) or entry.method.fit is not Method.fit
    if entry.reads_teacher and not reads:
        yield "reads_teacher is said, and it neither names a tap of the teacher nor fits anything"


def _values(trainee: Trainee, read: Features | None, batch: Batch) -> dict[str, float]:
    parts = {name: part.item() for name, part in losses(trainee, read, batch).items()}
    trainee.network.clear()
    return parts


def _outcome(
    bench: Bench, read: Features | None, batch: Batch, *, student_lacks: str = ""
) -> dict[str, float] | str:
    """Give the loss of the first step of a fresh run, or what it raised."""
    trainee = bench.begun()
    if student_lacks:
        trainee.network.register_forward_hook(
            lambda _module, _given, seen: picked(seen, student_lacks.__ne__)
        )
    try:
        return _values(trainee, read, batch)
    except Exception as error:  # noqa: BLE001  (whatever a method raises where something is missing)
        return in_words(error)


def _teacher_forwards(bench: Bench, batch: Batch, named: Features | None) -> int:
    """Count how often the teacher runs within a step."""
    if bench.teacher is None:
        return 0
    trainee = bench.begun()
    runs: list[int] = []
    hook = bench.teacher.register_forward_pre_hook(lambda _module, _given: runs.append(1))
    try:
        take_step(trainee, batch, named, bench.steps)
    finally:
        hook.remove()
    return len(runs)
