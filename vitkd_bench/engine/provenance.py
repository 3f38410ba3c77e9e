"""Where a number came from: code, libraries, hardware."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_LIBRARIES = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "pillow")


@cache
def _code() -> dict[str, Any]:
    return code_state(Path(__file__).resolve())


def code_state(file: Path) -> dict[str, Any]:
    """Give the `commit` of the checkout that a source file belongs to, and whether that is `dirty`.

    Both are None where git does not follow the file: an installed package may lie inside somebody else's
    repository, whose commit says nothing of it. Its version says which code it is.
    """
    try:
        _git(file.parent, "ls-files", "--error-unmatch", file.name)
        return {
            "commit": _git(file.parent, "rev-parse", "HEAD"),
            "dirty": bool(_git(file.parent, "status", "--porcelain", "-uno")),
        }
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],  # noqa: S607
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("vitkd_bench", *_LIBRARIES):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def provenance(device: torch.device, teacher: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Describe code, libraries and hardware; CPU results depend on thread count and instruction set.

    `teacher` says of the teacher's weights `sha256`, `backend` and `preflight`, the verdict of the checks
    made before the run (None where the teacher was made here, by a run with a record of its own);
    `made_sha256` in place of `sha256` where the network that taught is no teacher of the registry but one
    made for the run, `probe_sha256` where its head was, `outputs_sha256` where stored outputs were read.
    """
    known = teacher or {}
    names = ("made_sha256", "probe_sha256", "outputs_sha256")
    made = {f"teacher_{name}": known[name] for name in names if name in known}
    return {
        "code": _code(),
        "versions": _versions(),
        "hardware": {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "instruction_set": torch.backends.cpu.get_cpu_capability(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "teacher_weights_sha256": known.get("sha256"),
        "teacher_backend": known.get("backend"),
        "preflight": known.get("preflight"),
        **made,
    }


@cache
def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
