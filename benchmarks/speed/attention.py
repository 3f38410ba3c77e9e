"""Time and memory of the fused forms of attention transfer, against the forms that make the maps.

    python benchmarks/speed/attention.py [--threads 1] [--repeats 5] [--tokens 197 577 1370]

Takes about two minutes on one core. Prints ratios fused / plain, forward and backward: below 1 the fused
form is the better one. Both forms run in turns on the same tensors, so that other load falls on both; one
thread is timed by its CPU time. Peak memory is that of tensors made on the way, without the inputs (CPU:
what operators give; CUDA: what the allocator says). Heads are 6 of width 64.

On an AMD EPYC (one of two cores, other work running beside):

    cpu, torch 2.13.0+cpu, 1 thread(s): ratio of time, ratio of memory
    tokens  images         copy          ce          kl         mse  mse_logits         jsd          l1
        17      64    1.03 1.00   1.03 1.77   1.01 1.77   1.02 1.77   0.90 1.77   0.94 1.29   1.11 1.77
        50      32    1.02 1.00   0.94 0.84   0.93 0.84   1.02 1.21   0.82 1.20   0.86 0.63   1.02 1.21
       197       8    1.01 1.00   0.78 0.21   0.72 0.21   0.91 0.30   0.66 0.31   0.65 0.16   0.96 0.30
       577       2    1.19 0.15   0.63 0.07   0.71 0.07   0.83 0.10   0.60 0.10   0.52 0.05   0.84 0.10
      1370       1    1.06 0.07   0.37 0.03   0.23 0.03   0.24 0.05   0.20 0.04   0.17 0.03   0.26 0.05

Copy makes the maps below 512 keys. From there on its ratio went from 0.7 to 1.2 at 577 and from 0.6 to 1.1 at
1370, with what the memory of the plain form's maps costs at the moment.

Not yet run on a GPU.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vitkd_bench.attention import AttentionCall, Loss, attention_distillation, copied_attention

HEADS, WIDTH = 6, 64
BATCHES = {17: 64, 50: 32, 197: 8, 577: 2, 1370: 1}  # tokens -> images, about as many entries in each

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


def draw(tokens: int, device: str) -> AttentionCall:
    """Make a random call."""
    q, k, v = (torch.randn(BATCHES[tokens], HEADS, tokens, WIDTH, device=device) for _ in range(3))
    return AttentionCall(q, k, v, None, WIDTH**-0.5)


def distil(tokens: int, device: str, loss: Loss) -> dict[str, Step]:
    """Make one training step of distillation in both forms."""
    student, teacher = draw(tokens, device), draw(tokens, device)
    leaves = student.q.requires_grad_(), student.k.requires_grad_()

    def fused() -> object:
        return torch.autograd.grad(attention_distillation(student, teacher, loss=loss, form="fused"), leaves)

    def plain() -> object:
        return torch.autograd.grad(attention_distillation(student, teacher, loss=loss, form="plain"), leaves)

    return {"fused": fused, "plain": plain}


def copy(tokens: int, device: str) -> dict[str, Step]:
    """Make one training step of copying in both forms."""
    teacher, v = draw(tokens, device), draw(tokens, device).v.requires_grad_()
    upstream = torch.randn_like(v)
    return {
        "fused": lambda: torch.autograd.grad(copied_attention(teacher, v), v, upstream),
        "plain": lambda: torch.autograd.grad(teacher.maps() @ v, v, upstream),
    }


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


def ratios(steps: dict[str, Step], device: str, repeats: int) -> tuple[float, float]:
    """Compare time (the best of `repeats`) and peak memory, fused to plain."""
    best = {name: float("inf") for name in steps}
    for _ in range(repeats + 1):  # the first one warms up
        for name, step in steps.items():
            best[name] = min(best[name], seconds(step, device))
    memory = {name: peak(step, device) for name, step in steps.items()}
    return best["fused"] / best["plain"], memory["fused"] / memory["plain"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="time and memory of fused attention transfer, fused / plain")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tokens", type=int, nargs="+", choices=sorted(BATCHES), default=list(BATCHES))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    works: dict[str, Callable[[int, str], dict[str, Step]]] = {
        "copy": copy,
        **{loss: partial(distil, loss=loss) for loss in get_args(Loss)},
    }
    for device in ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]:
        threads = torch.get_num_threads()
        print(f"{device}, torch {torch.__version__}, {threads} thread(s): ratio of time, ratio of memory")
        print("tokens  images " + "".join(f"{name:>12}" for name in works))
        for tokens in options.tokens:
            images = BATCHES[tokens]
            cells = [ratios(make(tokens, device), device, options.repeats) for make in works.values()]
            print(f"{tokens:6} {images:7} " + "".join(f"{t:7.2f}{m:5.2f}" for t, m in cells), flush=True)


if __name__ == "__main__":
    main()
