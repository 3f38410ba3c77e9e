"""What runs need made first, in a cache that many output folders share."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from pathlib import Path

from vitkd_bench.records.damage import checked_name, damaged_in, set_aside
from vitkd_bench.records.files import (
    parse_record,
    read_bytes,
    sync_folder,
    with_digest,
    write_atomically,
)
from vitkd_bench.records.locks import Lock, this_process
from vitkd_bench.spec import DamagedFileError, Record, WorldError, cache_folder, file_sha256

WEIGHTS = "weights.safetensors"


class Preparations:
    """Finished preparations, `preparations/<id>/{weights.safetensors, record.json}` under the cache.

    What is read has been checked: the record against its digest, the weights against the record's
    `weights_sha256`, once a process. A damaged one is set aside whole, named in `damage`, and counts as
    absent.
    """

    def __init__(self, cache: Path | None = None) -> None:
        """Name the cache; None stands for `cache_folder()`. Folders are made when something is written."""
        self.folder = Path(cache or cache_folder()) / "preparations"
        self.damage: list[str] = []
        self._verified: dict[str, Record] = {}

    @property
    def _aside(self) -> Path:
        return self.folder.parent / "damaged"

    def damaged(self) -> dict[Path, str]:
        """Why each preparation was set aside, by anybody at any time, by where it lies now."""
        return damaged_in(self._aside)

    def weights(self, preparation: str) -> Path:
        """The file of weights; there is one if `ready` says so."""
        return self.folder / checked_name(preparation) / WEIGHTS

    def record_path(self, preparation: str) -> Path:
        """The record of the run that made it."""
        return self.folder / checked_name(preparation) / "record.json"

    def lock(self, preparation: str) -> Lock:
        """The lock under which it is made: `acquire(timeout)` waits for it, `try_acquire()` does not."""
        return Lock(self.folder / "locks" / f"{checked_name(preparation)}.lock", this_process())

    def ready(self, preparation: str) -> Record | None:
        """Give the record of a sound preparation, or None if it has to be made."""
        if preparation in self._verified and self.weights(preparation).exists():
            return self._verified[preparation]
        try:
            record = self._verify(preparation)
        except DamagedFileError as error:
            aside = set_aside(self.folder / preparation, self._aside, str(error))
            self.damage.append(f"{error}; set aside as {aside}")
            return None
        if record:
            self._verified[preparation] = record
        return record

    def peek(self, preparation: str) -> Record | None:
        """Give its record without hashing the weights, touching nothing; None if it is absent or damaged."""
        path = self.record_path(preparation)
        content = read_bytes(path)
        try:
            return None if content is None else parse_record(content, path, preparation)
        except DamagedFileError:
            return None

    def write(self, record: Record, weights: bytes) -> Path:
        """Put a finished preparation into the cache, whole; call it under `lock`.

        Returns:
            The file of weights. Where a sound one is there already, that one is kept.

        Raises:
            ValueError: the record is not of a finished run, or its `weights_sha256` is not that of `weights`.
            WorldError: the disk refuses.
        """
        _refuse_other(record, hashlib.sha256(weights).hexdigest())
        self._verified.pop(record.run_id, None)
        if self.ready(record.run_id):
            return self.weights(record.run_id)
        file = self.draft(record.run_id)
        write_atomically(file, weights)
        return self._put(record, file.parent)

    def draft(self, preparation: str) -> Path:
        """Name a file, in a new folder of its own, where weights can be written piece by piece; under `lock`.

        Raises:
            WorldError: the disk refuses.
        """
        self._clear_leftovers(preparation)
        aside = self.folder / "making" / f"{checked_name(preparation)}-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            aside.mkdir(parents=True)
        except OSError as error:
            raise WorldError(f"{aside}: cannot be made: {error.strerror}") from None
        return aside / WEIGHTS

    def adopt(self, record: Record, draft: Path) -> Path:
        """Put a finished preparation into the cache whose weights lie in the file `draft`, as `write` does.

        Returns:
            The file of weights. Where a sound one is there already, that one is kept.

        Raises:
            ValueError: the record is not of a finished run, or its `weights_sha256` is not that of the file.
            WorldError: the disk refuses.
        """
        _refuse_other(record, file_sha256(draft))
        self._verified.pop(record.run_id, None)
        if self.ready(record.run_id):
            shutil.rmtree(draft.parent, ignore_errors=True)
            return self.weights(record.run_id)
        return self._put(record, draft.parent)

    def _put(self, record: Record, aside: Path) -> Path:
        write_atomically(aside / "record.json", with_digest(record.plain()))
        try:
            aside.rename(self.folder / record.run_id)
        except OSError as error:
            raise WorldError(f"{self.folder / record.run_id}: cannot be written: {error.strerror}") from None
        sync_folder(self.folder)
        return self.weights(record.run_id)

    def _verify(self, preparation: str) -> Record | None:
        folder = self.folder / checked_name(preparation)
        if not folder.is_dir():
            return None
        content = read_bytes(self.record_path(preparation))
        if content is None or not self.weights(preparation).is_file():
            raise DamagedFileError(f"{folder}: its record or its weights are missing")
        record = parse_record(content, self.record_path(preparation), preparation)
        found = file_sha256(self.weights(preparation))
        if found != record.weights_sha256:
            raise DamagedFileError(
                f"{self.weights(preparation)}: sha256 is {found}, its record says {record.weights_sha256}"
            )
        return record

    def _clear_leftovers(self, preparation: str) -> None:
        """Remove what a killed process left half made; the lock says that nobody else is at it."""
        for leftover in (self.folder / "making").glob(f"{preparation}-*"):
            shutil.rmtree(leftover, ignore_errors=True)


def _refuse_other(record: Record, digest: str) -> None:
    """Hold a record against the SHA-256 of its weights."""
    if record.status != "done" or record.weights_sha256 != digest:
        raise ValueError(
            f"preparation {record.run_id}: {record.status}, weights {record.weights_sha256}, not {digest}"
        )
