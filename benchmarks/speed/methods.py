"""What a distillation step costs beside its networks, and what the loop costs beside a plain one.

    python benchmarks/speed/methods.py [--parts step loop teacher] [--repeats 5] [--device cpu]

Takes six to ten minutes on one core. What is measured is the engine's own loop (`run_pack`), its stream of
data included. It takes turns with a plain loop of the same sizes in the same process: timm's network, torch's
own defaults, nothing logged. Ratios are medians over the turns, by CPU time of the process and by the clock.
The first steps, in which norms of gradients are measured, are left out.

- step: a step of a method over a plain step of the student and a forward of the whole teacher, at 197 tokens
  (goal: at most 1.25 on a CPU, 1.15 on a GPU); a * marks attention matched across sizes.
- loop: images a second of `none` over those of the plain loop (goal: at least 0.97).
- teacher: what a forward takes that reads a part of a ViT-S, over one of the bare network.

On an AMD EPYC, one of two cores that others work on, 2026-11-21. CPU time is the fairer figure. A second
run, under more load, gave 0.997, 0.990 and 1.028 for the loops, and up to 0.08 away in the last table:

    cpu, float32, torch 2.13.0+cpu, 1 thread(s), 8 images of a step
    student / teacher   method            CPU time   clock
    ti / s              attn_copy*           1.037   1.040
    ti / s              attn_distill*        1.195   1.281
    ti / s              kd                   0.973   0.990
    ti / s              projector            1.030   1.030
    s / s               attn_copy            0.958   0.987
    s / s               attn_distill         1.059   1.066
    s / s               kd                   0.974   0.973
    s / s               projector            1.021   1.043

    student                               CPU time   clock
    micro               64 images            0.973   0.963
    ti at 112 px        16 images            1.003   1.006
    s at 224 px         8 images             1.027   1.027

                              operations  CPU time   clock
    attention of all blocks        0.945     0.958   0.959
    attention of block 5           0.447     0.455   0.456
    tokens of block 5              0.502     0.509   0.509
    pooled                         1.000     1.024   1.031
    logits                         1.000     1.035   1.031

Not yet run on a GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vitkd_bench.contracts import Examples
from vitkd_bench.contracts.taps import LOGITS, POOLED, attention, tokens
from vitkd_bench.engine import Interrupted, PackOptions, run_pack
from vitkd_bench.engine.gradients import GradientNorms
from vitkd_bench.networks import draw_teacher
from vitkd_bench.pipeline import TrainStream, open_splits, resolve_dataset
from vitkd_bench.records import Preparations, Store
from vitkd_bench.registry import DATASETS, METHODS, TEACHERS
from vitkd_bench.spec import (
    SIZES,
    Architecture,
    Head,
    MethodUse,
    Pack,
    Plan,
    Recipe,
    ResolvedDataset,
    Run,
    Teacher,
    TeacherUse,
)

SIDE, PATCH = 224, 16  # 197 tokens
ACROSS = {"match": "experimental_nearest"}  # of 3 heads and 6: exact pairs of these sizes are refused
METHODS_TIMED: dict[str, dict[str, Any]] = {
    "attn_copy": ACROSS,
    "attn_distill": ACROSS,
    "kd": {},
    "projector": {},
}
LOOPS = {  # size, side, patch, images a step on a CPU and on a GPU, steps a turn
    "micro": ("micro", 8, 2, 64, 64, 16),
    "ti at 112 px": ("ti", 112, 16, 16, 256, 2),
    "s at 224 px": ("s", 224, 16, 8, 128, 1),
}
Times = tuple[float, float]  # seconds of this process's CPU time, seconds by the clock


@dataclass(frozen=True)
class Where:
    """Device, precision and how often each figure is measured."""

    device: torch.device
    precision: Any
    repeats: int

    @property
    def on_gpu(self) -> bool:
        """Whether the device works beside the CPU."""
        return self.device.type == "cuda"

    def now(self) -> Times:
        """Read both clocks, when all that was asked of the device is done."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)
        return time.process_time(), time.perf_counter()

    def taken(self, work: Callable[[], object]) -> Times:
        """Time some work."""
        start = self.now()
        work()
        return since(start, self.now())


def since(start: Times, end: Times) -> Times:
    """Subtract two readings."""
    return end[0] - start[0], end[1] - start[1]


def ratios(pairs: list[tuple[Times, Times]]) -> Times:
    """Give the median of the ratios of pairs, by CPU time and by the clock."""
    cpu, clock = (statistics.median(ours[i] / theirs[i] for ours, theirs in pairs) for i in (0, 1))
    return cpu, clock


@dataclass
class Turns:
    """Answers the engine's question at every step, whether to stop; between two turns a plain loop has one.

    A turn is `steps` steps of one epoch. What follows the last step of an epoch is in none, and neither are
    the first steps, in which norms of gradients are measured.
    """

    where: Where
    plain: Iterator[None]
    steps: int
    epoch: int
    first: int
    pairs: list[tuple[Times, Times]] = field(default_factory=list)
    asked: int = 0
    _plain: Times = (0.0, 0.0)
    _began: Times = (0.0, 0.0)

    def __call__(self) -> bool:
        """End a turn and begin the next one, if as many steps are over; stop after the last."""
        place = self.asked % self.epoch
        self.asked += 1
        if place % self.steps or self.asked <= self.first:
            return False
        if place and self._plain[1]:
            self.pairs.append((since(self._began, self.where.now()), self._plain))
        if len(self.pairs) > self.where.repeats:
            return True
        self._plain = self.where.taken(lambda: [next(self.plain) for _ in range(self.steps)])
        self._began = self.where.now()
        return False


def architecture(size: str, side: int = SIDE, patch: int = PATCH) -> Architecture:
    """Describe a plain ViT for digits of `side` pixels."""
    return Architecture(channels=1, image_size=side, patch=patch, size=SIZES[size])


def digits() -> ResolvedDataset:
    """Give the data set whose pictures are brought to every size."""
    return resolve_dataset(DATASETS.get("digits"), {}, ())


def contract(size: str) -> Teacher:
    """Describe a teacher of drawn weights, which knows the classes."""
    data = digits()
    return Teacher(
        name=f"speed/{size}",
        title="of drawn weights",
        family="speed",
        group="reserve",
        paper="",
        licence="",
        architecture=architecture(size),
        pixels=data.pixels,
        head=Head(kind="labels", label_space=data.label_space, num_classes=len(data.classes)),
        objective="none",
    )


def recipe(images: int, where: Where, steps: int) -> Recipe:
    """Give a recipe that lasts long enough and clips; nothing is augmented."""
    return Recipe(
        epochs=2 + (where.repeats + 2) * steps * images // 1000,
        batch_size=images,
        lr=1e-3,
        warmup_epochs=1,
        clip_grad=1.0,
        label_smoothing=0.1,
        precision=where.precision,
    )


def timm_model(of: Architecture) -> nn.Module:
    """Build the same network as a user of timm does."""
    from timm.models import VisionTransformer

    model: nn.Module = VisionTransformer(
        img_size=of.image_size,
        patch_size=of.patch,
        in_chans=of.channels,
        num_classes=len(digits().classes),
        embed_dim=of.size.width,
        depth=of.size.depth,
        num_heads=of.size.heads,
        global_pool="avg",
    )
    return model


def adamw(model: nn.Module, of: Recipe) -> torch.optim.Optimizer:
    """Make the recipe's optimiser with everything else as torch has it."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=of.lr, betas=of.betas, weight_decay=of.weight_decay)


def plain_loop(
    student: Architecture, of: Recipe, examples: Examples, device: torch.device, teacher: nn.Module | None
) -> Iterator[None]:
    """Train as one writes it by hand, a step at a time, and run a whole `teacher` on each batch."""
    model = timm_model(student).to(device)
    optimiser = adamw(model, of)
    images, labels = torch.tensor(examples.images), torch.tensor(examples.labels)
    statistics_ = digits().pixels
    mean, std = (
        torch.tensor(x, device=device).view(1, -1, 1, 1) for x in (statistics_.mean, statistics_.std)
    )
    whole = len(labels) // of.batch_size
    while True:
        for at in torch.randperm(len(labels)).split(of.batch_size)[:whole]:
            pixels = (images[at].to(device).float() / 255 - mean) / std
            with torch.autocast(device.type, torch.bfloat16, enabled=of.precision == "bfloat16"):
                if teacher is not None:
                    with torch.no_grad():
                        teacher(pixels)
                loss = F.cross_entropy(
                    model(pixels), labels[at].to(device), label_smoothing=of.label_smoothing
                )
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), of.clip_grad or 0.0)
            optimiser.step()
            yield


def run_of(
    method: str, settings: dict[str, Any], student: Architecture, of: Recipe, teacher: str | None
) -> Run:
    """Declare the training of one student."""
    read = None
    if teacher:
        pin = f"random:timm:{teacher}:1"
        read = TeacherUse(name=f"speed/{teacher}", pin=pin, key=pin, image_size=student.image_size, version=1)
    use = MethodUse(name=method, version=METHODS.get(method).version, settings=settings)
    return Run(student=student, method=use, teacher=read, dataset=digits(), recipe=of, seed=0)


def compared(run: Run, where: Where, steps: int) -> list[tuple[Times, Times]]:
    """Train a run in turns with the plain loop and give the times of each turn, ours first.

    Raises:
        RuntimeError: the run failed.
    """
    examples = open_splits(run.dataset, (), run.student.image_size).train
    teacher = None
    if run.teacher:
        of_teacher = TEACHERS.get(run.teacher.name).architecture
        teacher = timm_model(of_teacher).to(where.device).eval().requires_grad_(requires_grad=False)
    plain = plain_loop(run.student, run.recipe, examples, where.device, teacher)
    measured = GradientNorms(run.recipe, len(examples)).steps
    turns = Turns(where, plain, steps, len(TrainStream(examples, run.recipe, run.seed)), measured)
    plan = Plan(suite="speed", resolved={}, cells=(), runs={run.id: run}, packs=(), teachers={}, methods={})
    options = PackOptions(
        device=str(where.device),
        threads=torch.get_num_threads(),
        should_stop=turns,
        checkpoint_s=float("inf"),
    )
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        with contextlib.suppress(Interrupted):
            run_pack(
                plan, Pack(id="speed", runs=(run.id,)), store, Preparations(Path(folder) / "made"), options
            )
            raise RuntimeError(f"the run ended before it was measured: {store.read(run.id)}")
    return turns.pairs[1:]  # the first turn warms up


def steps_of_methods(where: Where, images: int) -> None:
    """Print what a step of each method takes over a plain step and the forward of a whole teacher."""
    print("\nstep: of a method over a plain step of the student and a forward of the whole teacher")
    print(f"{'student / teacher':20}{'method':16}{'CPU time':>10}{'clock':>8}{'s a step':>10}")
    turn = 4 if where.on_gpu else 1
    for size in ("ti", "s"):
        for method, settings in METHODS_TIMED.items():
            own = settings if size == "ti" else {}
            run = run_of(method, own, architecture(size), recipe(images, where, turn), "s")
            pairs = compared(run, where, turn)
            seconds = statistics.median(ours[1] for ours, _ in pairs) / turn
            row(f"{size} / s", f"{method}{'*' if own else ''}", ratios(pairs), seconds)


def row(pair: str, name: str, given: Times, seconds: float) -> None:
    """Print a line of a comparison; seconds are those of our step."""
    cpu, clock = given
    print(f"{pair:20}{name:16}{cpu:10.3f}{clock:8.3f}{seconds:10.3f}", flush=True)


def loops(where: Where, _images: int) -> None:
    """Print how many images a second the engine trains on, over a plain loop; batches are `LOOPS`' own."""
    print("\nloop: images a second of `none` over those of a plain loop (goal: at least 0.97)")
    print(f"{'student':20}{'':16}{'CPU time':>10}{'clock':>8}{'s a step':>10}")
    for name, (size, side, patch, on_cpu, on_gpu, steps) in LOOPS.items():
        images, turn = (on_gpu, 4) if where.on_gpu else (on_cpu, steps)
        run = run_of("none", {}, architecture(size, side, patch), recipe(images, where, turn), None)
        pairs = compared(run, where, turn)
        seconds = statistics.median(ours[1] for ours, _ in pairs) / turn
        row(name, f"{images} images", ratios([(plain, ours) for ours, plain in pairs]), seconds)


def forwards(where: Where, images: int) -> None:
    """Print what reading parts of a teacher takes over a forward of the bare network."""
    print("\nteacher: forwards that read a part, over one of the bare network")
    of = contract("s")
    network = draw_teacher(of, of.architecture, 0, "timm").to(where.device)
    pixels = torch.rand(images, 1, SIDE, SIDE, device=where.device)
    works: dict[str, Callable[[], object]] = {"bare": lambda: network.module(network.normalise(pixels))}
    for name, asked in {
        "attention of all blocks": {attention(i) for i in range(12)},
        "attention of block 5": {attention(5)},
        "tokens of block 5": {tokens(5)},
        "pooled": {POOLED},
        "logits": {LOGITS},
    }.items():
        works[name] = lambda asked=asked: network(pixels, frozenset(asked))  # type: ignore[misc]
    with (
        torch.no_grad(),
        torch.autocast(where.device.type, torch.bfloat16, enabled=where.precision == "bfloat16"),
    ):
        times = [{name: where.taken(work) for name, work in works.items()} for _ in range(where.repeats + 1)][
            1:
        ]
        counted = {name: operations(work) for name, work in works.items()}
    print(f"{'':24}{'operations':>12}{'CPU time':>10}{'clock':>8}")
    for name in works:
        cpu, clock = ratios([(turn[name], turn["bare"]) for turn in times])
        print(f"{name:24}{counted[name] / counted['bare']:12.3f}{cpu:10.3f}{clock:8.3f}", flush=True)


def operations(work: Callable[[], object]) -> int:
    """Count multiplications and additions of matrix products and attention."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


PARTS: dict[str, Callable[[Where, int], None]] = {
    "step": steps_of_methods,
    "loop": loops,
    "teacher": forwards,
}


def main() -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(
        description="what a distillation step, our loop and a teacher's forward cost"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--images", type=int, help="of a step at 197 tokens; 8 on a CPU, 128 on a GPU")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    where = Where(torch.device(options.device), options.precision, options.repeats)
    images = options.images or (128 if where.on_gpu else 8)
    print(f"{where.device}, {where.precision}, torch {torch.__version__}, {options.threads} thread(s)")
    TEACHERS.register(contract("s"))
    for part in options.parts:
        PARTS[part](where, images)


if __name__ == "__main__":
    main()
