"""Time and memory of attention transfer as it is done, against the forms that make the maps whole.

    python benchmarks/speed/attention.py [--threads 1] [--repeats 9] [--tokens 197 577 1370] [--sizes s b]
    python benchmarks/speed/attention.py --memory kept    the same, freed memory kept in the process
    python benchmarks/speed/attention.py --crossover      copying in each of its forms, whatever the size

Takes about three minutes each on one core. Prints ratios over the plain form, forward and backward: below 1
the form that is taken is the better one. The forms run in turns on the same tensors, in both orders, so that
other load falls on both; a ratio is the median of those within a turn; one thread is timed by its CPU time.
Peak memory is that of tensors made on the way, without the inputs (CPU: what operators give; CUDA: what the
allocator says). Heads are 6 (ViT-S) and 12 (ViT-B) of width 64; on a GPU in bfloat16, 16 times the images.

The plain form's time depends on what becomes of freed memory. glibc gives blocks of megabytes back to the
system, and the next step pays for their pages again; a process that trains large networks keeps more of them.
`--memory` has both ends. On an AMD EPYC (one of two cores, other work running beside), 2026-11-30:

    ViT-S, cpu, torch 2.13.0+cpu, 1 thread(s), memory returned: ratio of time, ratio of memory
    tokens         copy          ce          kl         mse  mse_logits         jsd          l1
        17    1.06 1.00   0.98 1.00   1.12 1.00   0.99 1.00   0.97 1.00   1.09 1.00   1.00 1.00
        50    0.97 1.00   0.73 0.84   0.82 0.84   1.00 1.21   0.74 1.20   0.78 0.63   0.89 1.21
       197    0.91 0.82   0.46 0.21   0.65 0.21   0.96 0.30   0.50 0.31   0.46 0.16   0.77 0.30
       577    0.66 0.61   0.57 0.07   0.66 0.07   0.78 0.10   0.51 0.10   0.49 0.05   0.79 0.10
      1370    0.80 0.07   0.30 0.03   0.31 0.03   0.26 0.05   0.17 0.04   0.21 0.03   0.29 0.05
    ViT-B, cpu, torch 2.13.0+cpu, 1 thread(s), memory returned: ratio of time, ratio of memory
    tokens         copy          ce          kl         mse  mse_logits         jsd          l1
        17    1.03 1.00   0.98 1.00   0.98 1.00   1.01 1.00   1.01 1.00   1.01 1.00   1.00 1.00
        50    1.05 1.00   0.78 0.71   0.84 0.71   0.98 1.02   0.73 1.20   0.83 0.43   0.95 1.02
       197    1.07 0.82   0.74 0.18   0.52 0.18   0.88 0.26   0.49 0.31   0.53 0.11   0.90 0.26
       577    0.92 0.61   0.51 0.06   0.64 0.06   0.63 0.09   0.43 0.10   0.62 0.04   0.68 0.09
      1370    0.93 0.06   0.25 0.03   0.26 0.03   0.27 0.04   0.20 0.04   0.20 0.02   0.26 0.04

    ViT-S, cpu, torch 2.13.0+cpu, 1 thread(s), memory kept: ratio of time, ratio of memory
    tokens         copy          ce          kl         mse  mse_logits         jsd          l1
        17    1.01 1.00   1.03 1.00   1.02 1.00   0.99 1.00   0.95 1.00   1.02 1.00   0.95 1.00
        50    0.96 1.00   0.78 0.84   0.80 0.84   1.03 1.21   0.70 1.20   0.84 0.63   0.98 1.21
       197    1.08 0.82   0.68 0.21   0.69 0.21   0.87 0.30   0.56 0.31   0.64 0.16   0.93 0.30
       577    1.01 0.61   0.70 0.07   0.69 0.07   0.88 0.10   0.50 0.10   0.70 0.05   0.85 0.10
      1370    1.10 0.07   0.47 0.03   0.61 0.03   0.69 0.05   0.49 0.04   0.61 0.03   0.73 0.05
    ViT-B, cpu, torch 2.13.0+cpu, 1 thread(s), memory kept: ratio of time, ratio of memory
    tokens         copy          ce          kl         mse  mse_logits         jsd          l1
        17    0.99 1.00   0.98 1.00   0.97 1.00   1.02 1.00   1.01 1.00   1.00 1.00   0.99 1.00
        50    1.02 1.00   0.80 0.71   0.80 0.71   1.03 1.02   0.76 1.20   0.82 0.43   0.98 1.02
       197    1.01 0.82   0.75 0.18   0.70 0.18   0.83 0.26   0.62 0.31   0.68 0.11   0.85 0.26
       577    1.00 0.61   0.66 0.06   0.65 0.06   0.75 0.09   0.50 0.10   0.59 0.04   0.85 0.09
      1370    1.01 0.06   0.57 0.03   0.65 0.03   0.71 0.04   0.54 0.04   0.68 0.02   0.71 0.04

`--crossover`: docs/attention.md. Not yet run on a GPU.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vitkd_bench.attention import AttentionCall, Loss, attention_distillation, copied_attention, copying

HEADS = {"s": 6, "b": 12}  # of a ViT-S and a ViT-B
WIDTH = 64
# tokens -> images, about as many entries in each
BATCHES = {17: 64, 50: 32, 65: 32, 101: 16, 145: 8, 197: 8, 577: 2, 785: 2, 1025: 1, 1370: 1}
TOKENS = (17, 50, 197, 577, 1370)
CROSSOVER = (65, 101, 145, 197, 577, 785, 1025, 1370)
NEVER = 2**31 - 1
# forms of copying: keys from which maps are made in tiles, and from which they are not kept
FORMS = {"whole": (NEVER, NEVER), "tiled": (0, NEVER), "not kept": (0, 0)}
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h

Step = Callable[[], object]


class PeakMemory(TorchDispatchMode):
    """The most bytes that tensors made under it took at one time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.living: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operator and add up what is alive."""
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        known = {leaf.untyped_storage().data_ptr() for leaf in given}
        out = func(*args, **(kwargs or {}))
        self.living = {key: entry for key, entry in self.living.items() if not entry[0].expired()}
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and (storage := leaf.untyped_storage()).data_ptr() not in known:
                self.living[storage.data_ptr()] = StorageWeakRef(storage), storage.nbytes()
        self.peak = max(self.peak, sum(size for _, size in self.living.values()))
        return out


class Draw:
    """Makes random calls of one size on one device."""

    def __init__(self, size: str, device: str) -> None:
        self.heads, self.device = HEADS[size], device
        self.dtype = torch.bfloat16 if device == "cuda" else torch.float32

    def __call__(self, tokens: int) -> AttentionCall:
        """Make one."""
        shape = BATCHES[tokens] * (16 if self.device == "cuda" else 1), self.heads, tokens, WIDTH
        q, k, v = (torch.randn(shape, device=self.device, dtype=self.dtype) for _ in range(3))
        return AttentionCall(q, k, v, None, WIDTH**-0.5)


def distil(tokens: int, draw: Draw, loss: Loss) -> dict[str, Step]:
    """Make one training step of distillation in both forms."""
    student, teacher = draw(tokens), draw(tokens)
    leaves = student.q.requires_grad_(), student.k.requires_grad_()

    def taken() -> object:
        return torch.autograd.grad(attention_distillation(student, teacher, loss=loss), leaves)

    def plain() -> object:
        return torch.autograd.grad(attention_distillation(student, teacher, loss=loss, form="plain"), leaves)

    return {"taken": taken, "plain": plain}


def copy(tokens: int, draw: Draw) -> dict[str, Step]:
    """Make one training step of copying, as it is done and with maps that are made whole."""
    teacher, v = draw(tokens), draw(tokens).v.requires_grad_()
    upstream = torch.randn_like(v)
    return {
        "taken": lambda: torch.autograd.grad(copied_attention(teacher, v), v, upstream),
        "plain": lambda: torch.autograd.grad(teacher.maps().to(v.dtype) @ v, v, upstream),
    }


def copy_forms(tokens: int, draw: Draw) -> dict[str, Step]:
    """Make one training step of copying in each form, whatever the size."""
    teacher, v = draw(tokens), draw(tokens).v.requires_grad_()
    upstream = torch.randn_like(v)

    def step(form: str) -> object:
        copying.TILED_FROM, copying.NOT_KEPT_FROM = FORMS[form]
        return torch.autograd.grad(copied_attention(teacher, v), v, upstream)

    return {form: partial(step, form) for form in FORMS}


def seconds(step: Step, device: str) -> float:
    """Time one step: CPU time of a single thread, which other work disturbs less, else by the clock."""
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def peak(step: Step, device: str) -> int:
    """Measure the most bytes that one step takes beside its inputs."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    memory = PeakMemory()
    with memory:
        step()
    return memory.peak


def ratios(steps: dict[str, Step], base: str, device: str, repeats: int) -> dict[str, tuple[float, float]]:
    """Compare time (the median of ratios within a turn) and peak memory of each step with those of `base`."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(repeats + 1):
        for name in list(steps)[:: 1 if turn % 2 else -1]:
            took = seconds(steps[name], device)
            if turn:  # the first one warms up
                times[name].append(took)
    memory = {name: peak(step, device) for name, step in steps.items()}
    return {
        name: (
            statistics.median(a / b for a, b in zip(times[name], times[base], strict=True)),
            memory[name] / memory[base],
        )
        for name in steps
    }


def keep_memory() -> None:
    """Let glibc keep all freed memory in the process, as one that trains large networks has it by itself."""
    libc = ctypes.CDLL(None)
    if not (libc.mallopt(M_MMAP_MAX, 0) and libc.mallopt(M_TRIM_THRESHOLD, NEVER)):
        raise SystemExit("--memory kept: this libc does not take mallopt")


def losses_table(draw: Draw, tokens: list[int], repeats: int) -> None:
    """Print time and memory of copying and of each distance, as they are done over the plain form."""
    works: dict[str, Callable[[int, Draw], dict[str, Step]]] = {
        "copy": copy,
        **{loss: partial(distil, loss=loss) for loss in get_args(Loss)},
    }
    print("tokens " + "".join(f"{name:>12}" for name in works))
    for count in tokens:
        cells = [ratios(make(count, draw), "plain", draw.device, repeats)["taken"] for make in works.values()]
        print(f"{count:6} " + "".join(f"{t:7.2f}{m:5.2f}" for t, m in cells), flush=True)


def crossover_table(draw: Draw, tokens: list[int], repeats: int) -> None:
    """Print time and memory of the forms of copying over that which makes the maps whole."""
    print("tokens " + "".join(f"{name:>12}" for name in FORMS if name != "whole"))
    for count in tokens:
        found = ratios(copy_forms(count, draw), "whole", draw.device, repeats)
        print(f"{count:6} " + "".join(f"{t:7.2f}{m:5.2f}" for n, (t, m) in found.items() if n != "whole"))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="time and memory of attention transfer over the plain form")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--tokens", type=int, nargs="+", choices=sorted(BATCHES))
    parser.add_argument("--sizes", nargs="+", choices=list(HEADS), default=list(HEADS))
    parser.add_argument("--memory", choices=["returned", "kept"], default="returned")
    parser.add_argument("--crossover", action="store_true", help="compare the forms of copying on a CPU")
    options = parser.parse_args()
    if options.memory == "kept":
        keep_memory()
    torch.set_num_threads(options.threads)
    devices = ["cpu", "cuda"] if torch.cuda.is_available() and not options.crossover else ["cpu"]
    for device in devices:
        for size in options.sizes:
            draw = Draw(size, device)
            where = f"{device}, torch {torch.__version__}, {torch.get_num_threads()} thread(s)"
            print(f"ViT-{size.upper()}, {where}, memory {options.memory}: ratio of time, ratio of memory")
            table, tokens = (crossover_table, CROSSOVER) if options.crossover else (losses_table, TOKENS)
            table(draw, options.tokens or list(tokens), options.repeats)


if __name__ == "__main__":
    main()
