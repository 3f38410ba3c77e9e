"""Whether what a method's loss asks for can be learnt: a small batch, learnt by heart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from vitkd_bench.contracts import Batch, Features
from vitkd_bench.diagnose.method_bench import Bench, losses
from vitkd_bench.engine.trainee import Trainee

IMAGES = 8
STEPS = 150
RATE = 3e-3
SHARE = 0.9
"""Of what a part has above its floor, so much has to go; of a part whose floor is open, a tenth."""

LABELS = "labels"
NOTHING = 1e-6


def overfits(bench: Bench) -> Iterator[str]:
    """On a batch learnt by heart nine tenths go of what each part of its loss has above its floor."""
    trainee = bench.begun()
    batch = _small(bench.batch(0))
    read = bench.read(trainee, batch)
    start = _learn(trainee, read, batch, {})
    own = {name: value for name, value in start.items() if name != LABELS} or start
    floors = trainee.method.floors
    yield from (f"floors names {name!r}, which is no part of its loss" for name in floors if name not in own)
    at_teacher = _of_equal(bench, read, batch) if "teacher" in floors.values() else {}
    targets = {}
    for name, value in own.items():
        if floors.get(name) == "open":
            targets[name] = value - (1 - SHARE) * abs(value)
            continue
        floor = at_teacher.get(name, 0.0)
        if value < floor - NOTHING:
            yield f"{name}: {value:.4g} at the start, below its floor {floor:.4g}"
        targets[name] = max(floor + (1 - SHARE) * (value - floor), floor + NOTHING)
    least = _learn(trainee, read, batch, targets)
    yield from (
        f"{name}: from {value:.4g} to {least[name]:.4g} in {STEPS} steps, not to {targets[name]:.4g}"
        for name, value in own.items()
        if least[name] > targets[name]
    )


def _small(batch: Batch) -> Batch:
    """Take a few images of one view, half-way through the training and without smoothed labels."""
    few = {name: getattr(batch, name)[:IMAGES] for name in ("pixels", "labels", "ids")}
    views = tuple(view[:IMAGES] for view in batch.views)
    return replace(batch, **few, views=views, progress=0.5, label_smoothing=0.0)


def _learn(
    trainee: Trainee, read: Features | None, batch: Batch, targets: dict[str, float]
) -> dict[str, float]:
    """Train on the parts that have a target until all are there; give the least value of each part.

    Without targets nothing is trained, and the values are those of the start.
    """
    parameters = [p for module in trainee.modules for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.0, foreach=False)
    least: dict[str, float] = {}
    for _ in range(STEPS if targets else 1):
        parts = losses(trainee, read, batch)
        for name, part in parts.items():
            least[name] = min(part.item(), least.get(name, part.item()))
        if not targets or all(least[name] <= target for name, target in targets.items()):
            break
        optimiser.zero_grad(set_to_none=True)
        torch.stack([parts[name] for name in targets]).sum().backward()
        optimiser.step()
        trainee.network.clear()
        trainee.method.after_step(trainee.network, batch.progress)
    trainee.network.clear()
    return least


def _of_equal(bench: Bench, read: Features | None, batch: Batch) -> dict[str, float]:
    """Give the parts of the loss of a student that is its teacher; nothing where the two cannot be equal."""
    trainee, teacher = bench.begun(), bench.teacher
    if teacher is None or teacher.architecture != trainee.network.architecture:
        return {}
    weights, own = teacher.module.state_dict(), trainee.network.module.state_dict()
    trainee.network.module.load_state_dict({**own, **{k: v for k, v in weights.items() if k in own}})
    parts = {name: part.item() for name, part in losses(trainee, read, batch).items()}
    trainee.network.clear()
    return parts
