"""Time to list, build and load teachers, and the memory that loading takes.

    python benchmarks/speed/teachers.py [--repeats 3]

Takes about a minute; Linux only. Every figure is the median of fresh processes, and a ratio within one run:

- list: `vitkd teachers list` over importing typer and rich, whole processes (goal: under 2), of lists that
  find the index that a first one leaves in the cache;
- build: a ViT-B with random weights over one whose weights are on the meta device;
- load: its file into a network over reading the same tensors and no more;
- memory: the most that loading adds to the process, over the bytes of the weights (goal: at most 1.2), of a
  file in float32 and of one in float16, whose weights come out as float32.

On a Xeon with 2 cores, one thread:

    list 1.57 (0.14 s); build 14.7 (1.08 s); load 1.46 (0.41 s)
    memory 1.01 in float32, 1.00 in float16, of 330 MiB
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TEACHER = "deit/b"
IMPORTS = "import typer, rich.console, rich.table"
LISTING = "import sys; sys.argv = ['vitkd', 'teachers', 'list']; from vitkd_bench.cli import main; main()"
WRITE = f"""
import sys, torch, vitkd_bench
from safetensors.torch import save_file
from vitkd_bench.networks import build_teacher
from vitkd_bench.registry import TEACHERS
teacher = TEACHERS.get({TEACHER!r})
state = build_teacher(teacher, teacher.architecture, "timm").state_dict()
for name, kind in (("float32", torch.float32), ("float16", torch.float16)):
    stored = {{key: tensor.to(kind) for key, tensor in state.items()}}
    save_file(stored, f"{{sys.argv[1]}}/{{name}}.safetensors")
print(sum(tensor.numel() * 4 for tensor in state.values()))
"""
MEASURE = f"""
import sys, time, vitkd_bench
from pathlib import Path
from vitkd_bench.networks import build_teacher, load_teacher
from vitkd_bench.networks.weights import read_weights
from vitkd_bench.registry import TEACHERS

def memory(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

teacher, path = TEACHERS.get({TEACHER!r}), Path(sys.argv[2])
build_teacher(teacher, teacher.architecture, "timm", unfilled=True)
works = {{
    "build": lambda: build_teacher(teacher, teacher.architecture, "timm"),
    "unfilled": lambda: build_teacher(teacher, teacher.architecture, "timm", unfilled=True),
    "load": lambda: load_teacher(teacher, teacher.architecture, path, "timm"),
    "read": lambda: dict(read_weights(path)),
}}
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before, start = memory("VmRSS"), time.perf_counter()
kept = works[sys.argv[1]]()
print(time.perf_counter() - start, memory("VmHWM") - before)
"""


def run(code: str, *arguments: str) -> list[float]:
    """Run code in a fresh process and give the numbers of its last line."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    return [float(word) for word in done.stdout.splitlines()[-1].split()] if done.stdout else []


def process_seconds(code: str) -> float:
    """Time a process from its start to its end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return time.perf_counter() - start


def listing(repeats: int) -> tuple[float, float]:
    """Compare listing with importing, in turns, so that other load falls on both; ratio and seconds."""
    pairs = [(process_seconds(LISTING), process_seconds(IMPORTS)) for _ in range(5 * repeats + 1)][1:]
    return statistics.median(one / other for one, other in pairs), statistics.median(one for one, _ in pairs)


def compared(work: str, base: str, weights: Path, repeats: int) -> tuple[float, float]:
    """Give the ratio of the times of two works, and the seconds of the first."""
    pairs = [
        (run(MEASURE, work, str(weights))[0], run(MEASURE, base, str(weights))[0]) for _ in range(repeats)
    ]
    return statistics.median(one / other for one, other in pairs), statistics.median(one for one, _ in pairs)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="time and memory of listing, building and loading teachers")
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    ratio, taken = listing(repeats)
    print(f"vitkd teachers list / import of typer and rich{ratio:8.2f}{taken:8.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        size = run(WRITE, folder)[0]
        single, half = (Path(folder) / f"{kind}.safetensors" for kind in ("float32", "float16"))
        for work, base in (("build", "unfilled"), ("load", "read")):
            ratio, taken = compared(work, base, single, repeats)
            print(f"{TEACHER}: {work} / {base:24}{ratio:22.2f}{taken:8.2f} s")
        for weights in (single, half):
            peak = statistics.median(run(MEASURE, "load", str(weights))[1] for _ in range(repeats))
            row = f"{TEACHER}: peak memory / weights, {weights.stem:10}"
            print(f"{row}{peak / size:14.2f}{size / 2**20:8.0f} MiB")


if __name__ == "__main__":
    main()
