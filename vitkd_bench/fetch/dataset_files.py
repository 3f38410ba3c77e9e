"""Files of data sets: brought into a folder of the user's, recorded, and held to what they first were."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from vitkd_bench.fetch.cache import Found, locked, refuse_offline
from vitkd_bench.fetch.files import Expected, Watch, check_hash, sha256_of
from vitkd_bench.fetch.locations import WebFile, parse_location
from vitkd_bench.fetch.lockfile import Pin, WeightLock
from vitkd_bench.spec import BadInputError, alternatives, cache_folder

if TYPE_CHECKING:
    from vitkd_bench.spec import Dataset


@dataclass(frozen=True, slots=True)
class Fetchable:
    """A file that may be fetched: its address, and its name in the data set's folder."""

    dataset: str
    url: str
    name: str

    @property
    def where(self) -> str:
        """What errors open with."""
        return f"data set {self.dataset!r}: {self.url}"


def fetchable(facts: Dataset) -> tuple[Fetchable, ...]:
    """Read `Dataset.fetch`: each `URL`, whose last part is the name, or `URL -> name`.

    Raises:
        BadInputError: no address that can be fetched from, or a name that leads out of the folder.
    """
    return tuple(_fetchable(facts.name, line) for line in facts.fetch)


def folder_of(facts: Dataset, to: Path) -> Path:
    """Give the folder under `to` in which a data set's reader looks first."""
    first = alternatives(facts.files[0])[0] if facts.files else facts.name
    return to / first


def stands_for(facts: Dataset, file: Fetchable, folder: Path) -> Path | None:
    """Find what lies in a file's place, unpacked say, in every line of `Dataset.files` that names it."""
    lines = map(alternatives, facts.files[1:])
    others = [[name for name in line if name != file.name] for line in lines if file.name in line]
    found = [next((folder / n for n in names if (folder / n).exists()), None) for names in others]
    return found[0] if found and all(found) else None


class DatasetFiles:
    """Fetches files of data sets, and records each address with the SHA-256 that it gave first.

    The record, `datasets/datasets.lock.json`, lies in the cache and not beside the files: a folder of images
    holds nothing of ours but the files of locks, whose names begin with a dot.
    """

    def __init__(self, cache: Path | None = None) -> None:
        """Name the cache; None stands for `cache_folder()`."""
        self.lock_file = Path(cache or cache_folder()).absolute() / "datasets" / "datasets.lock.json"

    def fetch(
        self, file: Fetchable, folder: Path, watch: Watch | None = None, *, accept_new_hash: bool = False
    ) -> Found:
        """Give a file in `folder`, brought there first where it is not; a broken download is gone on with.

        Args:
            file: what is fetched.
            folder: of the data set; made where it is not there.
            watch: told of bytes as they come.
            accept_new_hash: ask again even if the file is here, and record what comes now.

        Raises:
            BadInputError: no such file there, or no right to it.
            WorldError: offline, no network, a server that fails, a full disk.
            WrongHashError: other bytes than those recorded, here or there; nothing is replaced.
        """
        target = (folder / file.name).absolute()
        with locked(target.with_name(f".{target.name}.lock")):
            pin = None if accept_new_hash else WeightLock.read(self.lock_file).weights.get(file.url)
            if accept_new_hash or not target.is_file():
                digest = _download(file, target, pin, watch)
            elif pin is not None and _unchanged(target, pin):
                digest = pin.sha256
            else:
                digest = sha256_of(target)
                check_hash(digest, _expected(pin, f"remove the file, then {_command(file)}"), str(target))
            return self._record(file, target, digest, replaces=accept_new_hash)

    def _record(self, file: Fetchable, target: Path, digest: str, *, replaces: bool) -> Found:
        """Write down what an address gave; a first use elsewhere in the meantime keeps its word."""
        from vitkd_bench.records import write_atomically
        from vitkd_bench.records.locks import now

        state = target.stat()
        pin = Pin(
            sha256=digest, size=state.st_size, date=now(), path=str(target), changed_ns=state.st_mtime_ns
        )
        with locked(self.lock_file.with_name(f"{self.lock_file.name}.lock")):
            lock = WeightLock.read(self.lock_file)
            before = None if replaces else lock.weights.get(file.url)
            if before is not None:
                check_hash(digest, _expected(before, _accepting(file)), file.where)
                pin = replace(pin, date=before.date)
            if pin != before:
                write_atomically(self.lock_file, lock.with_pin(file.url, pin).content())
        return Found(target, digest, pin.size, file.url, None, pin.date)


def _fetchable(dataset: str, line: str) -> Fetchable:
    url, _, named = (part.strip() for part in line.partition(" -> "))
    name = named or unquote(urlsplit(url).path).rpartition("/")[2]
    where = f"data set {dataset!r}: fetch"
    if not isinstance(parse_location(url, where), WebFile):
        raise BadInputError(f"{where}: {url!r}: an address that begins with https:// is needed")
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\\" in name:
        raise BadInputError(f"{where}: {line!r}: name the file inside the data set's folder, URL -> name")
    return Fetchable(dataset, url, name)


def _download(file: Fetchable, target: Path, pin: Pin | None, watch: Watch | None) -> str:
    from vitkd_bench.fetch.download import Remote, download

    refuse_offline(file.where)
    remote = Remote(
        file.url,
        file.where,
        expected=_expected(pin, _accepting(file)),
        kind="a file of images",
        by_hand=f"put it at {target}",
        room="--to names another disk",
    )
    return download(remote, target, watch)


def _unchanged(target: Path, pin: Pin) -> bool:
    state = target.stat()
    return (str(target), state.st_size, state.st_mtime_ns) == (pin.path, pin.size, pin.changed_ns)


def _expected(pin: Pin | None, way_out: str) -> tuple[Expected, ...]:
    if pin is None:
        return ()
    return (Expected(pin.sha256, f"as recorded on {pin.date}; nothing was replaced. {way_out}"),)


def _accepting(file: Fetchable) -> str:
    return f"If the new file is meant: {_command(file)} --accept-new-hash"


def _command(file: Fetchable) -> str:
    return f"vitkd datasets fetch {file.dataset}"
