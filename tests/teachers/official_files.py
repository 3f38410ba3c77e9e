"""Files of official releases, made from the names that their own classes give, with random values."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import Size, Teacher, WeightSource

LISTS = Path(__file__).resolve().parents[1] / "official_keys"
DEPTH = 2  # blocks of a file that is computed with; the lists themselves are whole
BLOCKS = re.compile(r"((?:^|\.)(?:resblocks|blocks)\.|encoderblock_)\[(\d+)\]")


@dataclass(frozen=True)
class Listed:
    """One list of `tests/official_keys`: what an official class stores, and who says so."""

    name: str
    teacher: Teacher
    container: str
    depth: int
    keys: Mapping[str, tuple[str, tuple[int, ...]]]

    @property
    def unused(self) -> tuple[str, ...]:
        """Patterns of keys that the contract says a network without heads has no place for."""
        return self.teacher.source("official").unused

    def tensors(self, seed: int = 0) -> dict[str, Tensor]:
        """Fill the list with random values, small weights, norms around one; unused ones take no memory."""
        generator = torch.Generator().manual_seed(seed)
        drawn = {
            name: _unused(kind, shape)
            if any(fnmatchcase(name, pattern) for pattern in self.unused)
            else filled(name, kind, shape, generator)
            for name, (kind, shape) in self.keys.items()
        }
        if self.teacher.architecture.components.position == "fixed":
            drawn |= {
                name: sin_cos(drawn[name].shape) for name in drawn if name.endswith("encoder.pos_embed")
            }
        return drawn


def read_list(name: str, depth: int | None = DEPTH) -> Listed:
    """Read a list, of a network of `depth` blocks; None leaves it as long as the class makes it."""
    document = json.loads((LISTS / f"{name}.json").read_text())
    teacher = TEACHERS.get(document["teacher"])
    assert teacher.source("official").layout == document["layout"]
    whole = teacher.architecture.size.depth
    count = whole if depth is None else depth
    keys: dict[str, tuple[str, tuple[int, ...]]] = {}
    for folded, (kind, shape) in document["keys"].items():
        found = BLOCKS.search(folded)
        assert found is None or int(found[2]) == whole, f"{name}: {folded} for a network of {whole} blocks"
        short = BLOCKS.sub(rf"\g<1>[{count}]", folded)
        keys |= dict.fromkeys(_unfold(short), (kind, tuple(shape)))
    return Listed(name, shallow(teacher, count), document["container"], count, keys)


def shallow(teacher: Teacher, depth: int) -> Teacher:
    """The same teacher with fewer blocks; each source is told so, in its library's word for it."""
    size = teacher.architecture.size
    fewer = Size(width=size.width, depth=depth, heads=size.heads, mlp_ratio=size.mlp_ratio)
    sources = tuple(
        source.model_copy(update={"arguments": {**source.arguments, **told(source, depth)}})
        for source in teacher.sources
    )
    architecture = teacher.architecture.with_(size=fewer)
    return Teacher.model_validate({**dict(teacher), "architecture": architecture, "sources": sources})


def told(source: WeightSource, depth: int) -> dict[str, int]:
    """The argument by which a source builds so many blocks; transformers reads it off the contract."""
    words = {"timm": "depth", "official": "depth", "open_clip": "layers"}
    return {words[source.backend]: depth} if source.backend in words else {}


def write_file(path: Path, container: str, tensors: Mapping[str, Tensor]) -> Path:
    """Store tensors as their release does: arrays by name, or a torch checkpoint under its container."""
    if path.suffix == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in tensors.items()})  # type: ignore[arg-type]
    else:
        held: Any = {container: dict(tensors), "epoch": 300} if container else dict(tensors)
        torch.save(held, path)
    return path


def sin_cos(shape: Iterable[int], *, column_first: bool = False) -> Tensor:
    """Give a table (1, 1 + G * G, D) as moco-v3 `vits.py` computes it; MAE puts the column first."""
    _, slots, width = shape
    side = math.isqrt(slots - 1)
    omega = 1 / 10000 ** (np.arange(width // 4) / (width // 4))
    rows = [np.zeros(width)]
    for row in range(side):
        for column in range(side):
            first, second = (column, row) if column_first else (row, column)
            parts = [wave(place * omega) for place in (first, second) for wave in (np.sin, np.cos)]
            rows.append(np.concatenate(parts))
    return torch.from_numpy(np.stack(rows)[None]).float()


def _unfold(folded: str) -> list[str]:
    found = re.search(r"\[(\d+)\]", folded)
    if found is None:
        return [folded]
    return [folded.replace(found[0], str(index)) for index in range(int(found[1]))]


def _unused(kind: str, shape: tuple[int, ...]) -> Tensor:
    return torch.zeros((), dtype=getattr(torch, kind)).expand(shape)


def filled(name: str, kind: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Random values by which a network of any width says something: small weights, norms around one."""
    values = torch.randn(shape, generator=generator) * 0.05
    norm = re.search(r"(norm\w*\.weight|ln_\w+\.weight|/scale|gamma_\d|\.gamma)$", name)
    return (values + 1 if norm else values).to(getattr(torch, kind))
