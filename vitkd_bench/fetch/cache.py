"""The cache of weights: find what is here, fetch what is not, and notice what has changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from vitkd_bench.fetch.files import Arrived, Expected, Watch, check_hash, sha256_of
from vitkd_bench.fetch.locations import HubFile, WebFile, offline_by, parse_location
from vitkd_bench.fetch.lockfile import Pin, WeightLock
from vitkd_bench.spec import BadInputError, DamagedFileError, WorldError, WrongHashError, cache_folder

if TYPE_CHECKING:  # who only looks for weights needs no contract, which takes longer than the looking
    from vitkd_bench.spec import Teacher, WeightSource

State = Literal["here", "not fetched", "changed"]


class Sought(Protocol):
    """What a `WeightSource` tells of where its file is."""

    @property
    def backend(self) -> str:
        """Who builds the network."""
        ...

    @property
    def location(self) -> str | None:
        """Where the file comes from, if that is known."""
        ...

    @property
    def sha256(self) -> str | None:
        """The file's SHA-256, if the contract pins it."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """A file of weights on this machine: its SHA-256, size in bytes, where and when (UTC) it came from."""

    path: Path
    sha256: str
    size: int
    location: str
    revision: str | None
    date: str


class WeightCache:
    """Weights of teachers by location, and the lock file that holds each to what it first was.

    Files of the hub stay in the hub's own cache; those of web addresses and `weights.lock.json` lie in
    `teachers/` under the cache. A location is recorded with revision and SHA-256 at its first use.
    """

    def __init__(self, cache: Path | None = None) -> None:
        """Name the cache; None stands for `cache_folder()`. Folders are made when something is fetched."""
        self.folder = Path(cache or cache_folder()).absolute() / "teachers"
        self.lock_file = self.folder / "weights.lock.json"

    def find(self, teacher: Teacher, backend: str | None = None) -> Found | None:
        """Look for the weights of a teacher, without network; None if they are not here.

        A file whose size and time of change are those at its recording is not hashed again.

        Args:
            teacher: the contract.
            backend: which of its sources is meant; None takes the first.

        Raises:
            BadInputError: the teacher has no such source.
            WrongHashError: the file is not the recorded one any more. DamagedFileError: the lock file is.
        """
        return _look(teacher.name, teacher.source(backend), WeightLock.read(self.lock_file))

    def states(self, sought: Iterable[tuple[str, Sought]]) -> dict[tuple[str, str], State]:
        """Say of many sources, each with its teacher's name, what `find` would; by teacher and backend.

        The lock file is read once. A source whose file is not the recorded one, and every source where the
        lock file is damaged, is `changed`.

        Raises:
            WorldError: the lock file, or a file of weights that has to be hashed again, cannot be read.
        """
        try:
            lock = WeightLock.read(self.lock_file)
        except DamagedFileError:
            lock = None
        found: dict[tuple[str, str], State] = {}
        for name, source in sought:
            if (name, source.backend) not in found:  # `find` takes the first of a backend
                found[name, source.backend] = _state(name, source, lock)
        return found

    def fetch(
        self,
        teacher: Teacher,
        backend: str | None = None,
        *,
        watch: Watch | None = None,
        accept_new_hash: bool = False,
    ) -> Found:
        """Give the weights of a teacher, brought here first where they are not.

        Args:
            teacher: the contract.
            backend: which of its sources is meant; None takes the first.
            watch: told of bytes as they come.
            accept_new_hash: ask the source again even if the file is here, and record what it gives now.

        Raises:
            BadInputError: no such source, repository, revision or file, or no right to it.
            WorldError: offline, no network, a server that fails, a full disk, or another hash than the
                contract or the lock file names; what was here is as it was.
        """
        found = None if accept_new_hash else self.find(teacher, backend)
        if found:
            return found
        source = teacher.source(backend)
        where = f"teacher {teacher.name!r}: {source.location}"
        if source.location is None:
            raise BadInputError(
                f"teacher {teacher.name!r}: its {source.backend} source names no location; give weights: FILE"
            )
        file = parse_location(source.location, f"teacher {teacher.name!r}")
        pin = None if accept_new_hash else WeightLock.read(self.lock_file).weights.get(source.location)
        expected = _expected(teacher.name, source, pin)
        if isinstance(file, HubFile):
            arrived = _hub_file(_pinned(file, source, pin), expected, where, watch)
        else:
            arrived = self._web_file(file, expected, where, watch, again=accept_new_hash)
        digest = sha256_of(arrived.path)
        check_hash(digest, (*arrived.expected, *expected), f"{where}: {arrived.path.resolve()}")
        self._record(teacher.name, source, arrived, digest, replaces=accept_new_hash)
        found = self.find(teacher, backend)
        if found is None:
            raise WorldError(f"{where}: {arrived.path} vanished as soon as it was there")
        return found

    def _web_file(
        self, file: WebFile, expected: tuple[Expected, ...], where: str, watch: Watch | None, *, again: bool
    ) -> Arrived:
        from vitkd_bench.fetch.download import Remote, download

        target = self.folder / "files" / file.place
        with locked(target.with_name(f"{target.name}.lock")):
            if again or not target.is_file():
                refuse_offline(where)
                download(Remote(file.url, where, expected=expected), target, watch)
        return Arrived(target)

    def _record(
        self, name: str, source: WeightSource, arrived: Arrived, digest: str, *, replaces: bool
    ) -> None:
        """Write down what a location gave; a first use elsewhere in the meantime keeps its word."""
        from vitkd_bench.records import write_atomically
        from vitkd_bench.records.locks import now

        state = arrived.path.stat()
        pin = Pin(
            revision=arrived.revision,
            sha256=digest,
            size=state.st_size,
            date=now(),
            path=str(arrived.path),
            changed_ns=state.st_mtime_ns,
        )
        location = source.location or ""
        with locked(self.lock_file.with_name(f"{self.lock_file.name}.lock")):
            lock = WeightLock.read(self.lock_file)
            if not replaces:
                check_hash(digest, _expected(name, source, lock.weights.get(location)), location)
            write_atomically(self.lock_file, lock.with_pin(location, pin).content())


def _look(name: str, source: Sought, lock: WeightLock) -> Found | None:
    pin = lock.weights.get(source.location or "")
    if pin is None or source.location is None or source.sha256 not in {None, pin.sha256}:
        return None
    path = Path(pin.path)
    if not path.is_file():
        return None
    state = path.stat()
    if (state.st_size, state.st_mtime_ns) != (pin.size, pin.changed_ns):
        _check_unchanged(name, source, pin)
    return Found(path, pin.sha256, pin.size, source.location, pin.revision, pin.date)


def _state(name: str, source: Sought, lock: WeightLock | None) -> State:
    if lock is None:
        return "changed"
    try:
        return "here" if _look(name, source, lock) else "not fetched"
    except WrongHashError:
        return "changed"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for a lock and hold it."""
    from vitkd_bench.records import Lock, this_process

    lock = Lock(path, this_process())
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _hub_file(file: HubFile, expected: tuple[Expected, ...], where: str, watch: Watch | None) -> Arrived:
    from vitkd_bench.fetch.hub import from_hub, in_hub_cache

    here = in_hub_cache(file, where) if offline_by() else None
    if here:
        return here
    refuse_offline(where)
    return from_hub(file, expected, where, watch)


def refuse_offline(where: str) -> None:
    """Refuse to go on where a setting forbids the network.

    Raises:
        WorldError: it does; names it.
    """
    setting = offline_by()
    if setting:
        raise WorldError(f"{where}: not here, and {setting} forbids the network; fetch it where there is one")


def _pinned(file: HubFile, source: WeightSource, pin: Pin | None) -> HubFile:
    """Ask for the recorded commit, unless the contract has come to pin another file since."""
    if pin is None or source.sha256 not in {None, pin.sha256}:
        return file
    return replace(file, revision=pin.revision)


def _expected(name: str, source: WeightSource, pin: Pin | None) -> tuple[Expected, ...]:
    """The hash that counts: the contract's if it has one, else the recorded one."""
    if source.sha256:
        return (Expected(source.sha256, f"which the contract of {name} pins; nothing was replaced"),)
    if pin is None:
        return ()
    told = (
        f"as recorded on {pin.date}; nothing was replaced. If the new file is meant: {_command(name, source)}"
    )
    return (Expected(pin.sha256, f"{told} --accept-new-hash"),)


def _check_unchanged(name: str, source: Sought, pin: Pin) -> None:
    file = Path(pin.path).resolve()
    digest = sha256_of(file)
    if digest != pin.sha256:
        raise WrongHashError(
            f"teacher {name!r}: {file}: sha256 is {digest}, not {pin.sha256} as recorded on {pin.date}; "
            f"remove the file, then {_command(name, source)}"
        )


def _command(name: str, source: Sought) -> str:
    return f"vitkd teachers fetch {name} --backend {source.backend}"
