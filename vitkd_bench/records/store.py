"""The store: every file of one output folder, and no half of any."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from vitkd_bench.records.damage import checked_name, damaged_in, is_name, set_aside
from vitkd_bench.records.files import (
    check_arrays,
    check_schema,
    pack_arrays,
    parse_record,
    read_bytes,
    read_sealed,
    unpack_arrays,
    with_digest,
    without_digest,
    write_atomically,
    write_sealed,
)
from vitkd_bench.records.locks import Lock, now, this_process
from vitkd_bench.spec import BadInputError, DamagedFileError, Plan, Record
from vitkd_bench.spec.plan import PLAN_SCHEMA


class Store:
    """One output folder; owns every file name in it.

    Reading a damaged record sets it aside under `damaged/`, says so in `damage`, and counts it as absent.
    With `look_only` nothing in the folder is touched: the file stays and is named all the same.
    """

    def __init__(self, folder: Path, *, look_only: bool = False) -> None:
        """Name the folder; it is made when something is written."""
        self.folder = Path(folder)
        self.look_only = look_only
        self.damage: list[str] = []
        self.damaged_runs: dict[str, str] = {}

    # --- file names ---

    @property
    def plan_path(self) -> Path:
        """`plan.json`."""
        return self.folder / "plan.json"

    def record_path(self, run_id: str) -> Path:
        """`records/<run id>.json`."""
        return self.folder / "records" / f"{checked_name(run_id)}.json"

    def predictions_path(self, run_id: str) -> Path:
        """`predictions/<run id>.npz`."""
        return self.folder / "predictions" / f"{checked_name(run_id)}.npz"

    def live_path(self, run_id: str) -> Path:
        """`live/<run id>.json`."""
        return self.folder / "live" / f"{checked_name(run_id)}.json"

    def checkpoint_path(self, run_id: str) -> Path:
        """`checkpoints/<run id>/state.pt`."""
        return self.folder / "checkpoints" / checked_name(run_id) / "state.pt"

    def weights_path(self, run_id: str) -> Path:
        """`weights/<run id>.safetensors`."""
        return self.folder / "weights" / f"{checked_name(run_id)}.safetensors"

    def log_path(self, name: str) -> Path:
        """`logs/<name>.log`."""
        return self.folder / "logs" / f"{checked_name(name)}.log"

    # --- plan ---

    def write_plan(self, plan: Plan) -> None:
        """Write `plan.json`, atomically and with its digest."""
        write_atomically(self.plan_path, with_digest(plan.plain()))

    def read_plan(self) -> Plan:
        """Read `plan.json`.

        Raises:
            BadInputError: there is none, so this is no output folder.
            DamagedFileError: truncated, altered, or of another schema version.
        """
        content = read_bytes(self.plan_path)
        if content is None:
            raise BadInputError(
                f"{self.plan_path}: no such file; is {self.folder} the output folder of a run?"
            )
        data = without_digest(content, self.plan_path)
        check_schema(data, PLAN_SCHEMA, self.plan_path)
        try:
            return Plan.parse(data, str(self.plan_path))
        except BadInputError as error:
            raise DamagedFileError(str(error)) from None

    # --- records ---

    def write(self, record: Record, predictions: Mapping[str, np.ndarray] | None = None) -> None:
        """Write a run's predictions and then its record: a record never stands without what belongs to it."""
        if predictions is not None:
            write_atomically(self.predictions_path(record.run_id), pack_arrays(predictions))
        write_atomically(self.record_path(record.run_id), with_digest(record.plain()))

    def write_predictions(self, name: str, predictions: Mapping[str, np.ndarray]) -> None:
        """Keep predictions that are no run's, a teacher's, beside those of the runs; once is enough."""
        if not self.predictions_path(name).exists():
            write_atomically(self.predictions_path(name), pack_arrays(predictions))

    def read(self, run_id: str) -> Record | None:
        """Read one record; None if there is none, or a damaged one (set aside, named in `damage`)."""
        path = self.record_path(run_id)
        content = read_bytes(path)
        if content is None:
            return None
        try:
            return parse_record(content, path, run_id)
        except DamagedFileError as error:
            self._note_damage(run_id, path, str(error))
            return None

    def predictions(self, run_id: str) -> dict[str, np.ndarray] | None:
        """Read one run's predictions; None if there are none, or damaged ones (set aside, in `damage`)."""
        content = self._sound_predictions(run_id)
        return None if content is None else unpack_arrays(content, self.predictions_path(run_id))

    def _sound_predictions(self, run_id: str) -> bytes | None:
        path = self.predictions_path(run_id)
        content = read_bytes(path)
        if content is None:
            return None
        try:
            check_arrays(content, path)
        except DamagedFileError as error:
            self._note_damage(run_id, path, str(error))
            return None
        return content

    def records(self) -> dict[str, Record]:
        """All sound records by run id, in the order of their ids."""
        ids = sorted(path.stem for path in (self.folder / "records").glob("*.json"))
        found = {run_id: self.read(run_id) for run_id in ids if is_name(run_id)}
        return {run_id: record for run_id, record in found.items() if record}

    def finished(self, wanted: Mapping[str, tuple[str, ...]] | None = None) -> set[str]:
        """Ids of the runs that need not be done again.

        Args:
            wanted: by run id, the splits that its metrics must have; a run not named there needs none.

        Returns:
            Runs whose sound record says `done`, has those splits, and has sound predictions beside it.
        """
        splits = wanted or {}
        return {run_id for run_id in self.records() if self.is_finished(run_id, splits.get(run_id, ()))}

    def is_finished(self, run_id: str, splits: Iterable[str] = ()) -> bool:
        """Say whether a sound record says `done` with these splits, and has sound predictions beside it."""
        record = self.read(run_id)
        done = record is not None and record.status == "done" and set(splits) <= set(record.metrics)
        return done and self._sound_predictions(run_id) is not None

    def serves(self, plan: Plan, run_id: str) -> bool:
        """Say whether a run of a plan needs no more work.

        It is finished with the splits that the plan asks for, and its weights are there where the plan keeps
        them.
        """
        kept = plan.keep == "none" or self.weights_path(run_id).is_file()
        return kept and self.is_finished(run_id, plan.splits_of(run_id))

    # --- damage ---

    def set_aside(self, path: Path, reason: str) -> Path:
        """Move a damaged file or folder to `damaged/`, with the reason beside it; nothing is ever deleted.

        Returns:
            Where it lies now; `path` itself if somebody else has moved it already.

        Raises:
            WorldError: the disk refuses.
        """
        return set_aside(path, self.folder / "damaged", reason)

    def damaged(self) -> dict[Path, str]:
        """Why each file was set aside, by anybody at any time, by where it lies now."""
        return damaged_in(self.folder / "damaged")

    def sweep(self) -> int:
        """Remove what killed processes left half written; call it only while nobody writes into this folder.

        Returns:
            The number of files removed. None of them ever counted: they lack their final name.
        """
        leftovers = [path for path in self.folder.glob("**/*.part") if path.is_file()]
        for path in leftovers:
            path.unlink(missing_ok=True)
        return len(leftovers)

    def _note_damage(self, run_id: str, path: Path, reason: str) -> None:
        self.damaged_runs[run_id] = reason
        if self.look_only:
            self.damage.append(reason)
            return
        aside = self.set_aside(path, reason)
        self.damage.append(f"{reason}; set aside as {aside}")

    def reasons(self) -> dict[str, str]:
        """Why a run's record was set aside, now or earlier, by run id; the latest reason of each."""
        found = sorted(self.damaged().items(), key=lambda item: (len(item[0].name), item[0].name))
        return {path.name.partition(".json")[0]: why for path, why in found if ".json" in path.name}

    # --- what is going on ---

    def lock(self, name: str) -> Lock:
        """The lock `live/<name>.lock`, owned by this process."""
        return Lock(self.folder / "live" / f"{checked_name(name)}.lock", this_process())

    def beat(self, run_id: str, progress: dict[str, Any]) -> None:
        """Say that a run is alive and how far it is; atomic and cheap, and not kept over a loss of power."""
        said = {
            "owner": this_process(),
            "time": datetime.now(UTC).timestamp(),
            "at": now(),
            "progress": progress,
        }
        write_atomically(self.live_path(run_id), json.dumps(said).encode(), durable=False)

    def beats(self) -> dict[str, dict[str, Any]]:
        """The last heartbeat of each run: `owner`, `time` (seconds since 1970), `at` (UTC), `progress`.

        One that cannot be read (a loss of power can leave it empty) says nothing and is left out.
        """
        found = {}
        for path in sorted((self.folder / "live").glob("*.json")):
            with contextlib.suppress(ValueError, FileNotFoundError):
                found[path.stem] = json.loads(path.read_bytes())
        return found

    def clear_live(self, run_id: str) -> None:
        """Forget the heartbeat of a run that has ended."""
        self.live_path(run_id).unlink(missing_ok=True)

    # --- checkpoints ---

    def write_sealed(self, path: Path, payload: bytes) -> None:
        """Write a blob with its SHA-256, atomically."""
        write_sealed(path, payload)

    def read_sealed(self, path: Path) -> bytes:
        """Read a blob that `write_sealed` wrote.

        Raises:
            WorldError: no such file.
            DamagedFileError: truncated or altered; `set_aside` is left to the caller.
        """
        return read_sealed(path)

    def clear_checkpoint(self, run_id: str) -> None:
        """Remove the checkpoint of a run whose record is written."""
        shutil.rmtree(self.checkpoint_path(run_id).parent, ignore_errors=True)
