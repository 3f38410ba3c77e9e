"""Run as a module: opens a data set anew and says what order it has; and who asks a fresh process for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vitkd_bench.diagnose.dataset_bench import DatasetBench
from vitkd_bench.diagnose.dataset_checks import whole_ids
from vitkd_bench.pipeline.splits import hash_of
from vitkd_bench.registry import DATASETS, load_extension
from vitkd_bench.registry.shelf import is_extension


def same_elsewhere(bench: DatasetBench) -> Iterator[str]:
    """A fresh process finds the same ids and labels in the same order."""
    origin = Path(DATASETS.origin(bench.entry.name))
    asked = {
        "name": bench.entry.name,
        "extension": str(origin) if is_extension(origin) else None,
        "settings": bench.settings.declared(),
        "roots": [str(root) for root in bench.roots],
    }
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"  # sets of texts get another order
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=json.dumps(asked),
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
        capture_output=True,
        check=False,
        text=True,
    )
    if done.returncode:
        yield (done.stderr.strip().splitlines() or ["a fresh process cannot open it"])[-1]
    elif done.stdout.split()[-1:] != [order_of(bench)]:
        yield "another process finds another order: sort what a set or a disk lists"


def order_of(bench: DatasetBench) -> str:
    """Hash ids and labels of all parts, in their order."""
    return hash_of({name: (whole_ids(part), part.labels) for name, part in sorted(bench.parts.items())})


def answer(asked: dict[str, Any]) -> str:
    """Open what is asked for, in this process."""
    if asked["extension"]:
        load_extension(Path(asked["extension"]))
    entry = DATASETS.get(asked["name"])
    settings = entry.settings.parse(asked["settings"])
    return order_of(DatasetBench(entry, settings, tuple(map(Path, asked["roots"]))))


if __name__ == "__main__":
    print(answer(json.load(sys.stdin)))  # noqa: T201 - it is the answer
