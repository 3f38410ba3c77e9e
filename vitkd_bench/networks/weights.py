"""Files of weights: found in a folder, hashed, read tensor by tensor, and given to a network."""

from __future__ import annotations

import argparse
import hashlib
import json
import pickle
import struct
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vitkd_bench.spec import BadInputError, DamagedFileError, WorldError, file_sha256

FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""What weights are stored as; numbers of other types mean nothing without a scale, or are none."""
SHOWN = 5  # names in an error; the rest is counted
CONTAINERS = ("model", "module", "state_dict", "teacher", "target_encoder")  # where releases hold weights
IN_A_FOLDER = (  # what hubs and official releases call the one file; the first that is there counts
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
)
UNREADABLE = (
    SafetensorError,
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    zipfile.BadZipFile,
    LookupError,  # what torch's reader of pickles meets in a file that is none
    AttributeError,
    TypeError,
    AssertionError,
    struct.error,
)
CODE = ("GLOBAL", "UNSUPPORTED CLASS", "REDUCE")
"""Words of a refusal of torch's reader by which the file would call something."""
ARCHIVE = b"PK\x03\x04"  # by this torch tells its archives from its legacy format
SHARES = 16  # of the weights: as much as one of them is mapped at a time


def weight_files(path: Path) -> list[Path]:
    """Give the files that hold the weights: `path` itself, or what a folder has under a usual name.

    Raises:
        WorldError: no such file or folder, or a shard of an index is missing.
        BadInputError: a folder without weights under a usual name. DamagedFileError: an index is no index.
    """
    if path.is_dir():
        found = next((path / name for name in IN_A_FOLDER if (path / name).is_file()), None)
        if found is None:
            raise BadInputError(f"weights {path}: the folder has none of {', '.join(IN_A_FOLDER)}")
        return weight_files(found)
    if not path.is_file():
        raise WorldError(f"weights {path}: no such file")
    if not path.name.endswith(".index.json"):
        return [path]
    try:
        names = set(json.loads(path.read_text())["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError):
        raise DamagedFileError(f"weights {path}: it is no index of shards (weight_map)") from None
    shards = [path.parent / Path(str(name)).name for name in sorted(names)]
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise WorldError(f"weights {path}: its shard {missing[0]} is missing")
    return shards


def weights_sha256(path: Path) -> str:
    """Hash weights: 64 hexadecimal digits, of the one file, or of the digests of the shards in order.

    Raises:
        WorldError: the file cannot be read.
    """
    digests = [_sha256(file) for file in weight_files(path)]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _sha256(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise WorldError(f"weights {path}: {error.strerror}") from None


class StoredWeights(Mapping[str, Tensor]):
    """The tensors of a file by name; those of `FLOATING` types come as float32, and memory is theirs alone.

    They are read when they are asked for, one at a time, so that little more than what is kept of them is in
    memory, and nothing of what a checkpoint holds beside them (an optimiser's state, a second network). The
    exceptions are checkpoints of torch's legacy format (before 1.6) and compressed archives: those cannot be
    mapped and are read at once, whole. `shapes` are tensors on the meta device, of the types that are read.

    Raises:
        DamagedFileError: (on reading) a value is not finite, or the file cannot be read any more.
    """

    def __init__(self, path: Path, places: Mapping[str, Place], shapes: Mapping[str, Tensor]) -> None:
        self.path = path
        self.shapes = shapes
        self._places = dict(places)

    def __getitem__(self, name: str) -> Tensor:
        """Read one tensor."""
        place = self._places[name]
        if isinstance(place, Path):
            tensor = _read_one(place, name)
        elif isinstance(place, _MappedCheckpoint):
            tensor = place.read(name)
        else:
            tensor = self._places[name] = _as_float32(place, copy=False)
        if not _is_finite(tensor):
            raise DamagedFileError(f"weights {self.path}: {name} holds values that are not finite")
        return tensor

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self._places)

    def __len__(self) -> int:
        """Count the tensors."""
        return len(self._places)


def read_weights(path: Path) -> StoredWeights:
    """Open a file of weights or a folder that holds one: safetensors, a torch checkpoint, or an .npz archive.

    A checkpoint is unpickled with `weights_only`; its weights stand at the top or under one of `CONTAINERS`.
    Arrays are read without pickle.

    Raises:
        WorldError: no such file. DamagedFileError: it is truncated or of none of these kinds.
        BadInputError: it holds code (a pickled object, a TorchScript archive), or no tensors by name.
    """
    places: dict[str, Place] = {}
    shapes: dict[str, Tensor] = {}
    for file in weight_files(path):
        if file.suffix in LISTED:
            found = LISTED[file.suffix](file)
            places |= dict.fromkeys(found, file)
        elif _can_be_mapped(file):
            mapped = _MappedCheckpoint(file)
            found = mapped.shapes
            places |= dict.fromkeys(found, mapped)
        else:
            tensors = _checkpoint(file, mapped=False)
            found = {name: _outline(tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
            places |= tensors
        twice = found.keys() & shapes.keys()
        if twice:
            raise BadInputError(f"weights {path}: {file.name} and another shard both hold {_first(twice)}")
        shapes |= found
    return StoredWeights(path, places, shapes)


def _outline(shape: Iterable[int], kind: torch.dtype) -> Tensor:
    """Give shape and type of a tensor as it will be read, on the meta device."""
    return torch.empty(tuple(shape), dtype=torch.float32 if kind in FLOATING else kind, device="meta")


def _safetensors_shapes(path: Path) -> dict[str, Tensor]:
    shapes = {}
    with _reading(path), safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118
            outline = file.get_slice(name)
            floating = outline.get_dtype() in FLOATING_IN_SAFETENSORS
            kind = torch.float32 if floating else file.get_tensor(name).dtype  # few, or no weights at all
            shapes[name] = _outline(outline.get_shape(), kind)
    return shapes


def _array_shapes(path: Path) -> dict[str, Tensor]:
    shapes = {}
    with _reading(path), zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            with archive.open(member) as file:
                read = HEADERS[np.lib.format.read_magic(file)]
                shape, _, kind = read(file)
            shapes[member.removesuffix(".npy")] = _outline(shape, torch.from_numpy(np.empty(0, kind)).dtype)
    return shapes


FLOATING_IN_SAFETENSORS = {"F16", "BF16", "F32", "F64"}
LISTED = {".safetensors": _safetensors_shapes, ".npz": _array_shapes}
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def _read_one(path: Path, name: str) -> Tensor:
    """Read one tensor into memory of its own; the file is opened for each: what is mapped of it counts."""
    if path.suffix == ".npz":
        with _reading(path), np.load(path, allow_pickle=False) as archive:
            return _as_float32(torch.from_numpy(archive[name]), copy=False)
    with _reading(path), safe_open(path, "pt") as file:
        return _as_float32(file.get_tensor(name), copy=True)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what a reader raises on a bad file into one line that names the file."""
    try:
        yield
    except UNREADABLE as error:
        text = str(error)
        if "TorchScript" in text:
            raise BadInputError(
                f"weights {path}: a TorchScript archive, which holds code and is not opened: "
                "store its state_dict() as safetensors and give that file"
            ) from None
        if isinstance(error, pickle.UnpicklingError) and any(word in text.upper() for word in CODE):
            raise BadInputError(
                f"weights {path}: holds pickled code, which is not run: "
                "store its tensors by name as safetensors and give that file"
            ) from None
        raise DamagedFileError(f"weights {path}: cannot be read: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """Say why in one sentence; what torch's reader of pickles says is advice to run what is in the file."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, (SafetensorError, RuntimeError, OSError, zipfile.BadZipFile)) and str(error):
        first = str(error).splitlines()[0]
        if "weights_only" not in first:
            return first
    if isinstance(error, EOFError):
        return "it ends too early"
    return "it is damaged, or neither safetensors nor a torch checkpoint of tensors nor an .npz archive"


def _can_be_mapped(path: Path) -> bool:
    """Say whether the tensors of a checkpoint stand in it as they are: in an archive, and not compressed."""
    with _reading(path):
        with path.open("rb") as file:
            if file.read(len(ARCHIVE)) != ARCHIVE or not zipfile.is_zipfile(file):
                return False
        with zipfile.ZipFile(path) as archive:
            return all(record.compress_type == zipfile.ZIP_STORED for record in archive.infolist())


class _MappedCheckpoint:
    """The tensors of an archive, of which no more than a share stays mapped: mapped pages count as memory."""

    def __init__(self, path: Path) -> None:
        tensors = _checkpoint(path, mapped=True)
        self.shapes = {name: _outline(tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
        self._path = path
        self._share = sum(tensor.nbytes for tensor in tensors.values()) // SHARES
        self._left = -1  # nothing is mapped: a process that reads what was cut off since is killed
        self._mapped: dict[str, Tensor] = {}

    def read(self, name: str) -> Tensor:
        """Read one tensor into memory of its own."""
        if self._left < 0:
            self._mapped = {}  # unmaps, and before the next: both would count
            self._mapped, self._left = _checkpoint(self._path, mapped=True), self._share
        with _reading(self._path):
            tensor = self._mapped[name].detach()
        self._left -= tensor.nbytes
        return _as_float32(tensor, copy=True)


Place: TypeAlias = Path | Tensor | _MappedCheckpoint
"""Where a tensor is: in a file that is opened for each, at hand, or in a checkpoint that is mapped."""


def _checkpoint(path: Path, *, mapped: bool) -> dict[str, Tensor]:
    settings: list[Any] = [argparse.Namespace]  # releases keep those of their training beside the weights
    with _reading(path), torch.serialization.safe_globals(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="'torch.load' received a zip file")
        warnings.filterwarnings("ignore", message="Detected pickle protocol")
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    if isinstance(content, Mapping):
        held = next((content[key] for key in CONTAINERS if isinstance(content.get(key), Mapping)), content)
        if held and all(isinstance(tensor, Tensor) for tensor in held.values()):
            return dict(held)
    raise BadInputError(
        f"weights {path}: no tensors by name, neither at the top nor under {' or '.join(CONTAINERS)}"
    )


def _as_float32(tensor: Tensor, *, copy: bool) -> Tensor:
    kind = torch.float32 if tensor.dtype in FLOATING else tensor.dtype
    return tensor.to(kind, copy=copy).contiguous()


def _is_finite(tensor: Tensor) -> bool:
    """Look at the ends alone: they carry a NaN with them, and take no memory."""
    if tensor.dtype not in FLOATING or not tensor.numel():
        return True
    return all(bool(end.isfinite()) for end in tensor.aminmax())


def misfit(module: nn.Module, given: Mapping[str, Tensor]) -> str:
    """Say which keys keep `given` from being the weights of `module`, and no others; nothing if they are.

    Misshapen, mistyped, missing and unexpected keys are counted, the first of each kind named. A place that
    holds floating numbers takes those of any type in `FLOATING`, and no others.
    """
    own = module.state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in own.items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in given.items()}
    found = {
        "misshapen": [
            f"{name} {shapes[name]} for {expected[name]}"
            for name in expected.keys() & shapes.keys()
            if expected[name] != shapes[name]
        ],
        "mistyped": [
            f"{name} {_type(given[name])} for {_type(own[name])}"
            for name in expected.keys() & shapes.keys()
            if _mistyped(own[name], given[name])
        ],
        "missing": expected.keys() - shapes.keys(),
        "unexpected": shapes.keys() - expected.keys(),
    }
    return "; ".join(f"{len(names)} {kind} ({_first(names)})" for kind, names in found.items() if names)


def _mistyped(own: Tensor, given: Tensor) -> bool:
    return given.dtype not in FLOATING if own.is_floating_point() else given.dtype != own.dtype


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _first(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:SHOWN]) + (", ..." if len(ordered) > SHOWN else "")
