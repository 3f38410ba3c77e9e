"""What is left to do in a launch: read from disk, so that every process sees the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from vitkd_bench.launch.folder import Ended, LaunchFolder
from vitkd_bench.launch.labels import run_labels
from vitkd_bench.launch.order import ordered
from vitkd_bench.launch.training import ENGINE, Engine, load_engine
from vitkd_bench.plan import contract_of
from vitkd_bench.records import Preparations, Store
from vitkd_bench.spec import Failure, Pack, Plan


@dataclass(frozen=True, slots=True)
class Claim:
    """A pack that this process holds, and no other. `blocked` says which of its preparations failed."""

    pack: Pack
    blocked: str | None = None


class Board:
    """The packs of a plan in the order in which they are taken, and which of them are over.

    A pack is over when its launch folder says so, or when all of its runs were finished before the launch; a
    preparation also when nothing is left that reads it. A failed run of an earlier launch is not finished: it
    is tried again.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store,
        preparations: Preparations,
        folder: LaunchFolder,
        engine: str = ENGINE,
    ) -> None:
        self.plan, self.store, self.preparations, self.folder = plan, store, preparations, folder
        self._engine = engine
        self.packs = ordered(plan)
        self.labels = run_labels(plan)
        self._before = finished_runs(plan, store)
        self._over: set[str] = set()
        self._ready: set[str] = set()

    @property
    def engine(self) -> Engine:
        """What trains packs, imported when it is first needed."""
        return load_engine(self._engine)

    def over(self, pack: Pack) -> bool:
        """Whether nothing of this pack is left for this launch."""
        if pack.id not in self._over and (self.folder.ended(pack.id) or self._nothing_to_do(pack)):
            self._over.add(pack.id)
        return pack.id in self._over

    @property
    def left(self) -> tuple[Pack, ...]:
        """The packs that are not over."""
        return tuple(pack for pack in self.packs if not self.over(pack))

    @contextmanager
    def claim(self) -> Iterator[Claim | None]:
        """Hold the next pack that can be done now, or give None where others hold all of them.

        A claim is a lock of the kernel: it ends with the process that holds it. A preparation is also claimed
        in the cache, which launches in other folders share.
        """
        for pack in self.left:
            blocked = self._blocked(pack)
            if blocked is None and not all(map(self.is_ready, pack.needs)):
                continue
            with self._hold(pack) as held:
                # it may have been done between the look and the lock
                if held and not self.over(pack):
                    yield Claim(pack, blocked)
                    return
        yield None

    @contextmanager
    def _hold(self, pack: Pack) -> Iterator[bool]:
        locks = [self.store.lock(pack.id)]
        if pack.preparation:
            locks += [self.preparations.lock(run) for run in sorted(pack.runs)]
        with ExitStack() as stack:
            for lock in locks:
                if not lock.try_acquire():
                    yield False
                    return
                stack.callback(lock.release)
            yield True

    def is_done(self, run: str) -> bool:
        """Whether a run or preparation needs no more work, as the disk says now."""
        made = run not in self.plan.preparations or self.preparations.ready(run) is not None
        return made and (run not in self.plan.runs or self.store.serves(self.plan, run))

    def give_up(self, pack: Pack, kind: str, message: str) -> None:
        """Leave a failed record for every unfinished run of a pack, and end it."""
        for run in pack.runs:
            if not self.is_done(run):
                self._fail(run, Failure(kind=kind, message=message))
        self.end(pack)

    def end(self, pack: Pack) -> None:
        """End a pack: each unfinished run of it has a failed record, the engine's or else one from here."""
        failed = {}
        for run in pack.runs:
            if self.is_done(run):
                continue
            record = self.store.read(run)
            error = record.error if record else None
            if error is None:
                error = Failure(kind="no_record", message="the engine ended without leaving a record")
                self._fail(run, error)
            failed[run] = f"{error.kind}: {error.message}"
        self.folder.end(pack.id, Ended(failed=failed))

    def _fail(self, run_id: str, failure: Failure) -> None:
        run = self.plan.all_runs()[run_id]
        use = run.teacher
        made_by = self.plan.preparations.get(use.preparation or "") if use else None
        teacher = contract_of(use, made_by)[0] if use else None
        self.store.write(self.engine.failed_record(run, teacher, failure))
        self.store.clear_live(run_id)

    def is_ready(self, preparation: str) -> bool:
        """Whether a preparation is made and sound; verified once a process."""
        if preparation not in self._ready and self.preparations.ready(preparation) is not None:
            self._ready.add(preparation)
        return preparation in self._ready

    def failures(self) -> dict[str, str]:
        """What failed in this launch: run id to reason, preparations included."""
        found: dict[str, str] = {}
        for pack in self.packs:
            ended = self.folder.ended(pack.id)
            found |= ended.failed if ended else {}
        return found

    def _nothing_to_do(self, pack: Pack) -> bool:
        if not pack.preparation:
            return self._before.issuperset(pack.runs)
        readers = [other for other in self.packs if set(pack.runs).intersection(other.needs)]
        # a plan of nothing but preparations wants them for their own sake, and a cell its own run
        unread = bool(readers) and all(map(self.over, readers)) and not self.plan.runs.keys() & set(pack.runs)
        return unread or all(map(self.is_done, pack.runs))

    def _blocked(self, pack: Pack) -> str | None:
        """Name the failed preparation without which the pack cannot run."""
        for need in pack.needs:
            maker = next((p for p in self.packs if p.preparation and need in p.runs), None)
            if maker is None and not self.is_ready(need):
                return f"preparation {need} is not there, and nothing in the plan makes it"
            ended = self.folder.ended(maker.id) if maker else None
            if ended and need in ended.failed:
                return f"{self.labels[need]} failed: {ended.failed[need]}"
        return None


def finished_runs(plan: Plan, store: Store) -> set[str]:
    """The runs of a plan, preparations left out, that need no more work."""
    return {run for run in plan.runs if store.serves(plan, run)}
