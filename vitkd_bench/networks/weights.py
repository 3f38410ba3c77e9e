"""Files of weights: read, hashed, and loaded without a key left over."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vitkd_bench.spec import BadInputError, DamagedFileError, WorldError

SHOWN = 5  # names in an error; the rest is counted
NESTED = ("model", "state_dict")  # under which checkpoints of official releases hold their weights


def weights_sha256(path: Path) -> str:
    """Hash a file of weights: 64 hexadecimal digits.

    Raises:
        WorldError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WorldError(f"weights {path}: {error.strerror}") from None


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors by name from a safetensors file or a torch checkpoint; floating ones become float32.

    A checkpoint is unpickled with `weights_only`; its weights stand at the top or under `model` or
    `state_dict`.

    Raises:
        WorldError: no such file.
        DamagedFileError: the file is truncated, is of neither kind, or holds a value that is not finite.
    """
    if not path.is_file():
        raise WorldError(f"weights {path}: no such file")
    try:
        stored = load_file(path) if path.suffix == ".safetensors" else _checkpoint(path)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DamagedFileError(f"weights {path}: cannot be read: {reason}") from None
    weights = {k: t.float() if t.is_floating_point() else t for k, t in stored.items()}
    for name, tensor in weights.items():
        if not bool(tensor.isfinite().all()):
            raise DamagedFileError(f"weights {path}: {name} holds values that are not finite")
    return weights


def _checkpoint(path: Path) -> dict[str, Tensor]:
    content = torch.load(path, map_location="cpu", weights_only=True)
    for key in NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(t, Tensor) for t in content.values()):
        raise DamagedFileError(
            f"weights {path}: no tensors by name, neither at the top nor under {' or '.join(NESTED)}"
        )
    return dict(content)


def load_strictly(module: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Load `weights` into `module`, all of them and nothing else.

    Raises:
        BadInputError: missing, unexpected or misshapen keys, counted, the first of each kind named.
    """
    own = module.state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in own.items()}
    given = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    misshapen = [
        f"{name} {given[name]} for {expected[name]}"
        for name in expected.keys() & given.keys()
        if expected[name] != given[name]
    ]
    found = {
        "missing": expected.keys() - given.keys(),
        "unexpected": given.keys() - expected.keys(),
        "misshapen": misshapen,
    }
    wrong = [f"{len(names)} {kind} ({_first(names)})" for kind, names in found.items() if names]
    if wrong:
        raise BadInputError(f"{where}: the weights do not fit this network: {'; '.join(wrong)}")
    module.load_state_dict(dict(weights), strict=True)


def _first(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:SHOWN]) + (", ..." if len(ordered) > SHOWN else "")
