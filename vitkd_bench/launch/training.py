"""What trains packs: a module, by its import path, so that a worker loads it and a launcher need not."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from vitkd_bench.spec import BadInputError

if TYPE_CHECKING:
    from vitkd_bench.records import Preparations, Store
    from vitkd_bench.spec import Failure, Pack, Plan, Record, Run, Teacher

ENGINE = "vitkd_bench.engine"


class Engine(Protocol):
    """The part of `vitkd_bench.engine` that a launch uses.

    `run_pack` leaves a record for each run of the pack, done or failed; it raises `Interrupted` when the
    `should_stop` of its options turned true.
    """

    PackOptions: Callable[..., Any]
    Interrupted: type[BaseException]

    @staticmethod
    def run_pack(plan: Plan, pack: Pack, store: Store, preparations: Preparations, options: Any) -> None:
        """Train the unfinished runs of a pack."""

    @staticmethod
    def failed_record(run: Run, teacher: Teacher | None, error: Failure) -> Record:
        """Build the record of a run that never began."""


def load_engine(path: str) -> Engine:
    """Import what trains packs.

    Raises:
        BadInputError: no such module, or it lacks something.
    """
    try:
        engine: Any = importlib.import_module(path)
        for name in ("run_pack", "PackOptions", "Interrupted", "failed_record"):
            getattr(engine, name)
    except (ImportError, AttributeError) as error:
        raise BadInputError(f"engine {path!r}: {error}") from None
    loaded: Engine = engine
    return loaded
