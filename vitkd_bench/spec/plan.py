"""What a suite comes to before anything starts: cells, runs, preparations, packs, refusals."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

from pydantic import Field

from vitkd_bench.spec.base import Frozen
from vitkd_bench.spec.dataset import ResolvedDataset
from vitkd_bench.spec.run import Run
from vitkd_bench.spec.shift_map import map_classes
from vitkd_bench.spec.teacher import Backend

PLAN_SCHEMA = 1


class Cell(Frozen):
    """One teacher x student x method x data set, under the names that the suite gives them.

    `runs` and `baselines` map a seed (as text) to run ids; cells that come to the same run share its id.
    """

    teacher: str
    student: str
    method: str
    dataset: str
    runs: dict[str, str]
    baselines: dict[str, str] = {}


class Search(Frozen):
    """One setting of one cell's method, chosen on val: `values` in the order tried, `runs` of each by seed.

    `held` are the settings that were chosen before it. `chosen` is the place of the chosen value, None while
    trials are not all finished.
    """

    teacher: str
    student: str
    method: str
    dataset: str
    setting: str
    values: tuple[Any, ...]
    runs: tuple[dict[str, str], ...]
    held: dict[str, Any] = {}
    chosen: int | None = None


class Refusal(Frozen):
    """A cell that is not run, with its reason as one sentence.

    `impossible` and `excluded` are final. `not_fetched` says that data or weights are not on this machine,
    `preflight` that the weights are not what the teacher's contract says.
    """

    teacher: str
    student: str
    method: str
    dataset: str
    kind: Literal["impossible", "excluded", "not_fetched", "preflight"]
    reason: str

    @property
    def amendable(self) -> bool:
        """Whether the world, not the suite, is in the way: `run` then does the others and exits 1."""
        return self.kind in {"not_fetched", "preflight"}


class TeacherFacts(Frozen):
    """What a report says of a teacher without asking the registry. `outcome` is the published one, if any."""

    name: str
    family: str
    group: str
    outcome: str | None = None
    seen: tuple[str, ...] = ()
    components: tuple[str, ...] = ()
    own_weights: bool = False


class MethodFacts(Frozen):
    """What a report says of a method without importing it.

    Of a control `control_of` names the method, `control` the control and `claim` what the method can no
    longer claim if this does as well; `settings` are the method's, `control_settings` the control's.
    """

    name: str
    title: str
    kind: str
    settings: dict[str, Any] = {}
    needs_teacher_at_test: bool = False
    control_of: str | None = None
    control: str | None = None
    control_settings: dict[str, Any] = {}
    claim: str | None = None


class Pack(Frozen):
    """Runs that one worker trains in lock-step. `needs` are ids of preparations that must be there first."""

    id: str
    runs: tuple[str, ...]
    needs: tuple[str, ...] = ()
    preparation: bool = False


class Source(Frozen):
    """Where the weights of a pinned teacher lie on this machine; no part of any id.

    `backend` says whose form they have where the suite names one, `preflight` is the verdict of the checks
    made before a run trusts them: `pass`, or `mark: ...`, or `refuse: ...`; None where they were not checked.
    Where a head of texts is asked for, `tokenizer` is the hash of the files of its tokenizer, if that does
    not come with a library; `textless` says why none can be made, `untokenized` what it needs that is not
    here.
    """

    path: str
    sha256: str
    backend: Backend | None = None
    preflight: str | None = None
    tokenizer: str | None = None
    textless: str | None = None
    untokenized: str | None = None

    @property
    def refused(self) -> str | None:
        """Why these weights are not to be used, if they are not."""
        return self.preflight if (self.preflight or "").startswith("refuse") else None


class Plan(Frozen):
    """The whole of `OUT/plan.json`; runs by their id, teachers and methods by the suite's names.

    `waiting` counts the cells whose settings are still searched for: they are planned once `searches` have
    chosen. Runs of trials stand among `runs` and belong to no cell. `evaluate` names by data set the splits
    on which its runs are evaluated; each of `shift_sets`, by the suite's name, is one more for every run
    whose classes it shares; `absent` says why some of them are not at hand.
    """

    schema_: int = Field(default=PLAN_SCHEMA, alias="schema")
    suite: str
    resolved: dict[str, Any]
    cells: tuple[Cell, ...]
    refusals: tuple[Refusal, ...] = ()
    runs: dict[str, Run]
    preparations: dict[str, Run] = {}
    prepares: dict[str, str] = {}
    packs: tuple[Pack, ...]
    teachers: dict[str, TeacherFacts]
    methods: dict[str, MethodFacts]
    sources: dict[str, Source] = {}
    evaluate: dict[str, tuple[str, ...]] = {}
    shift_sets: dict[str, ResolvedDataset] = {}
    absent: dict[str, str] = {}
    extensions: tuple[str, ...] = ()
    searches: tuple[Search, ...] = ()
    waiting: int = 0
    keep: Literal["none", "student"] = "none"

    def splits_of(self, run_id: str) -> tuple[str, ...]:
        """Name the splits that a run is evaluated on; a trial of a search on val alone."""
        if run_id in self.trials:
            return ("val",)
        dataset = self.runs[run_id].dataset
        return (*self.evaluate.get(dataset.name, ("val", "test")), *self._shared.get(run_id, ()))

    @cached_property
    def _shared(self) -> dict[str, tuple[str, ...]]:
        """Shift sets that share classes with what a run is trained on, found once a list of classes."""
        known: dict[tuple[str, str], tuple[str, ...]] = {}
        found = {}
        for id_, run in self.runs.items() if self.shift_sets else ():
            key = run.dataset.label_space, run.dataset.class_hash
            if key not in known:
                sets = self.shift_sets.items()
                known[key] = tuple(label for label, shift in sets if map_classes(shift, run.dataset))
            found[id_] = known[key]
        return found

    @cached_property
    def trials(self) -> frozenset[str]:
        """Ids of the runs that belong to a search and to no cell."""
        asked = {id_ for search in self.searches for runs in search.runs for id_ in runs.values()}
        cells = {id_ for cell in self.cells for id_ in (*cell.runs.values(), *cell.baselines.values())}
        return frozenset(asked - cells)

    def all_runs(self) -> dict[str, Run]:
        """Preparations first, then runs."""
        return {**self.preparations, **self.runs}

    @classmethod
    def of_preparations(cls, name: str, runs: dict[str, Run], prepares: dict[str, str]) -> Plan:
        """Give the plan that makes one micro teacher and what it needs, without any cell."""
        packs = tuple(
            Pack(id=id_, runs=(id_,), needs=_preparations_of(run), preparation=True)
            for id_, run in runs.items()
        )
        return cls(
            suite=name.replace("/", "_"),
            resolved={},
            cells=(),
            runs={},
            preparations=runs,
            prepares=prepares,
            packs=packs,
            teachers={},
            methods={},
        )


def _preparations_of(run: Run) -> tuple[str, ...]:
    return run.teacher.preparations if run.teacher else ()
