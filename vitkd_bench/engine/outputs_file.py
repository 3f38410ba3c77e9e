"""A file of stored outputs, written an epoch at a time: what is kept need not fit into memory."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import BinaryIO, Self

import torch
from torch import Tensor

from vitkd_bench.spec import WorldError

_DTYPES = {torch.float16: "F16", torch.int16: "I16", torch.int32: "I32"}
_ALIGNED = 8  # bytes: safetensors begin their data at a multiple of it


class OutputsFile:
    """Safetensors `probabilities/<epoch>` and `classes/<epoch>` of one shape, added in the order of epochs.

    The header comes first in the file, and names every epoch: shapes and dtypes are those of `like`, a pair
    such as will be added. `bytes` and `sha256` are of what has been written.
    """

    def __init__(self, path: Path, epochs: int, like: tuple[Tensor, Tensor]) -> None:
        """Begin the file.

        Raises:
            WorldError: the disk refuses.
        """
        self.path, self.epochs, self.like = path, epochs, like
        self.bytes = self.added = 0
        self._hash = hashlib.sha256()
        try:
            self._file: BinaryIO = path.open("xb")
        except OSError as error:
            raise WorldError(f"{path}: cannot be written: {error.strerror or error}") from None
        self._write(self._header())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def sha256(self) -> str:
        """The SHA-256 of all bytes so far."""
        return self._hash.hexdigest()

    def add(self, probabilities: Tensor, classes: Tensor) -> None:
        """Append the next epoch.

        Raises:
            ValueError: other shapes or dtypes than announced, or an epoch too many.
            WorldError: the disk refuses.
        """
        given = [(t.shape, t.dtype) for t in (probabilities, classes)]
        if given != [(t.shape, t.dtype) for t in self.like] or self.added == self.epochs:
            raise ValueError(
                f"{self.path}: epoch {self.added} of {self.epochs}, {given}: not what was announced"
            )
        for tensor in (probabilities, classes):
            self._write(tensor.numpy().tobytes())
        self.added += 1

    def finish(self) -> None:
        """Bring all of it onto the disk.

        Raises:
            ValueError: an epoch is missing.
            WorldError: the disk refuses.
        """
        if self.added < self.epochs:
            raise ValueError(f"{self.path}: {self.added} of {self.epochs} epochs")
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise WorldError(f"{self.path}: cannot be written: {error.strerror or error}") from None

    def _header(self) -> bytes:
        entries, at = {}, 0
        for epoch in range(self.epochs):
            for what, tensor in zip(("probabilities", "classes"), self.like, strict=True):
                end = at + tensor.numel() * tensor.element_size()
                shape, dtype = list(tensor.shape), _DTYPES[tensor.dtype]
                entries[f"{what}/{epoch}"] = {"dtype": dtype, "shape": shape, "data_offsets": [at, end]}
                at = end
        text = json.dumps(entries, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _ALIGNED)
        return len(text).to_bytes(8, "little") + text

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise WorldError(f"{self.path}: cannot be written: {error.strerror or error}") from None
        self._hash.update(data)
        self.bytes += len(data)
