"""The Python surface: what the command line does, as functions.

```python
import vitkd_bench as vb

suite = vb.load_suite("smoke", ["recipe.epochs=2", "seeds=[0]"])
plan = vb.plan_suite(suite)
outcome = vb.run_suite(suite, out="runs/tried", executor="inline", only=["micro/deit:standard:*"])
frame = vb.load_records("runs/tried")
```
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vitkd_bench.diagnose import ensure_preflight, images_at_hand, next_step, stored_verdict
from vitkd_bench.fetch import WeightCache
from vitkd_bench.launch import LaunchOptions, Outcome, Snapshot, launch, resolve_device
from vitkd_bench.networks import (
    ViTNetwork,
    load_teacher,
    tokenizer_sha256,
    weights_sha256,
    why_textless,
)
from vitkd_bench.networks import create_student as _create_student
from vitkd_bench.pipeline import resolve_dataset
from vitkd_bench.plan import Inventory, SuiteFile, read_suite
from vitkd_bench.plan import Preparations as PlannedPreparations
from vitkd_bench.plan import plan_suite as _plan_suite
from vitkd_bench.records import Preparations, Store, table
from vitkd_bench.registry import DATASETS, TEACHERS, fetch_command, load_extension
from vitkd_bench.report import write_report
from vitkd_bench.spec import (
    Backend,
    BadInputError,
    Plan,
    ResolvedDataset,
    Source,
    Teacher,
    TeacherEntry,
    WorldError,
    parse_student,
    resolve_student,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "create_student",
    "create_teacher",
    "gather_inventory",
    "load_records",
    "load_suite",
    "plan_suite",
    "plan_teacher",
    "run_suite",
]


def load_suite(name_or_path: str, overrides: Sequence[str] = ()) -> SuiteFile:
    """Read and check a suite: a shipped one by name, or a file; `overrides` are `dotted.path=value`.

    Raises:
        BadInputError: what is wrong with it, by file, line and field.
    """
    suite_file = read_suite(name_or_path, overrides)
    for name in suite_file.suite.extensions:
        load_extension(suite_file.folder / name)
    return suite_file


def data_roots(suite_file: SuiteFile | None = None, data_root: Path | None = None) -> tuple[Path, ...]:
    """List where relative paths are looked for: beside the suite, then `data_root`, then `$VITKD_DATA`."""
    named = os.environ.get("VITKD_DATA")
    found = [suite_file.folder if suite_file else None, data_root, Path(named) if named else None]
    return tuple(path.resolve() for path in found if path is not None)


def gather_inventory(suite_file: SuiteFile, roots: tuple[Path, ...], *, check: bool = False) -> Inventory:
    """Look for the data and the weights that a suite names.

    Args:
        suite_file: the suite.
        roots: where relative paths are looked for.
        check: whether weights that have no verdict of a preflight yet are checked now, which takes seconds.

    Raises:
        BadInputError: an unknown data set or teacher, or a bad setting.
    """
    datasets: dict[str, ResolvedDataset | str] = {}
    for i, entry in enumerate(suite_file.suite.datasets):
        where = suite_file.place("datasets", i)
        if DATASETS.get(entry.name, where).facts.role == "shift":
            raise BadInputError(
                f"{where}: {entry.name} is a shift set, without images to train on: name it under evaluate"
            )
        datasets[entry.label] = _resolved(entry.name, entry.settings, roots, where)
    weights: dict[str, Source | str] = {}
    training: dict[str, ResolvedDataset | str] = {}
    for i, asked in enumerate(suite_file.suite.teachers):
        teacher = TEACHERS.get(asked.name, suite_file.place("teachers", i))
        training |= _training_sets(teacher, roots) if asked.weights is None else {}
        found = _weights(teacher, asked, roots)
        if isinstance(found, Source):
            found = _with_texts(teacher, asked, _checked(teacher, asked, found, roots, check=check))
        if found is not None:
            weights[asked.label] = found
    return Inventory(datasets, training, weights, _shift_sets(suite_file, roots))


def _shift_sets(suite_file: SuiteFile, roots: tuple[Path, ...]) -> dict[str, ResolvedDataset | str]:
    """Look for the shift sets that a suite evaluates on; a name that is none is for the plan to refuse."""
    found: dict[str, ResolvedDataset | str] = {}
    where = suite_file.place("evaluate")
    for entry in suite_file.suite.evaluated:
        if entry.name not in DATASETS.names() and not entry.settings:
            continue
        if DATASETS.get(entry.name, where).facts.role != "shift":
            raise BadInputError(
                f"{where}: {entry.name} is no shift set; it is trained on: name it under datasets"
            )
        found[entry.label] = _resolved(entry.name, entry.settings, roots, where)
    return found


def _weights(teacher: Teacher, asked: TeacherEntry, roots: tuple[Path, ...]) -> Source | str | None:
    """Find the weights of a teacher, or say why they are not here; None for one that is made here."""
    if asked.weights is not None:
        return _source(asked.weights, roots, asked.backend)
    if teacher.training:
        return None
    found = WeightCache().find(teacher, asked.backend)
    if found:
        return Source(path=str(found.path), sha256=found.sha256, backend=asked.backend)
    command = fetch_command(teacher, asked.backend)
    if command is None:
        return f"{teacher.name} has no location to be fetched from: give weights: FILE"
    return f"{teacher.name} is not fetched: {command}, or give weights: FILE"


def _checked(
    teacher: Teacher, asked: TeacherEntry, found: Source, roots: tuple[Path, ...], *, check: bool
) -> Source:
    """Put the verdict of the preflight on weights beside them; a new one is reached only under `check`.

    Raises:
        BadInputError: the suite names a file that is not this teacher's at all.
    """
    if check:
        at = teacher.architecture
        path, sha256 = Path(found.path), found.sha256
        verdict = ensure_preflight(teacher, at, path, sha256, asked.backend, roots)
        if verdict.fault == "other" and asked.weights is not None:
            raise BadInputError(f"{verdict.line}; {next_step(teacher, verdict, path)}")
    else:
        images = images_at_hand(teacher, roots)
        stored = stored_verdict(teacher, found.sha256, asked.backend, images)
        if stored is None:
            return found
        verdict = stored
    return found.model_copy(update={"preflight": verdict.line})


def _with_texts(teacher: Teacher, asked: TeacherEntry, found: Source) -> Source:
    """Say of weights what a text head of them needs, or why there can be none, where a suite asks for one."""
    if asked.head != "text" or teacher.text_encoder is None:
        return found
    path = Path(found.path)
    try:
        why = why_textless(teacher, path)
        return found.model_copy(
            update={"textless": why, "tokenizer": None if why else tokenizer_sha256(teacher, path)}
        )
    except WorldError as error:
        return found.model_copy(update={"untokenized": str(error)})
    except BadInputError as error:
        return found.model_copy(update={"textless": str(error)})


def _resolved(
    name: str, settings: Mapping[str, Any], roots: tuple[Path, ...], where: str
) -> ResolvedDataset | str:
    try:
        return resolve_dataset(DATASETS.get(name, where), settings, roots, where)
    except WorldError as error:
        return str(error)


def _source(name: str, roots: tuple[Path, ...], backend: Backend | None) -> Source | str:
    for path in (Path(name), *(root / name for root in roots)):
        if path.is_absolute() and path.exists():
            return Source(path=str(path), sha256=weights_sha256(path), backend=backend)
    return (
        f"weights {name}: no such file under {', '.join(map(str, roots)) or 'any data root (set VITKD_DATA)'}"
    )


def _training_sets(teacher: Teacher, roots: tuple[Path, ...]) -> dict[str, ResolvedDataset | str]:
    if teacher.training is None:
        return {}
    name = teacher.training.dataset
    found = {name: _resolved(name, {}, roots, f"teacher {teacher.name}")}
    if teacher.training.teacher:
        found |= _training_sets(TEACHERS.get(teacher.training.teacher), roots)
    return found


def plan_suite(
    suite: SuiteFile | str,
    *,
    data_root: Path | None = None,
    only: Sequence[str] = (),
    check: bool = False,
    out: Path | None = None,
) -> Plan:
    """Plan a suite: cells, refusals, runs, preparations, packs. Nothing is started.

    Settings that a suite searches for are chosen by the trials that are finished in `out`; cells whose trials
    are not are counted in `waiting`.

    With `check` weights of teachers that have no verdict yet go through the preflight now, and the verdict is
    kept in the cache; otherwise nothing is written.
    """
    suite_file = load_suite(suite) if isinstance(suite, str) else suite
    roots = data_roots(suite_file, data_root)
    inventory = gather_inventory(suite_file, roots, check=check)
    return _plan_suite(suite_file, inventory, only, finished_on_val(out) if out else {})


def finished_on_val(folder: Path) -> dict[str, dict[str, float]]:
    """Give the metrics on val of the runs that are finished in an output folder, by run id."""
    records = Store(folder).records()
    return {
        id_: record.metrics["val"]
        for id_, record in records.items()
        if record.status == "done" and "val" in record.metrics
    }


def plan_teacher(name: str, *, data_root: Path | None = None) -> Plan:
    """Plan the making of one micro teacher and of what it needs.

    Raises:
        BadInputError: an unknown teacher, or one that is not made here.
    """
    teacher = TEACHERS.get(name)
    preparations = PlannedPreparations(Inventory({}, _training_sets(teacher, data_roots(None, data_root))))
    use = preparations.use(teacher)
    if isinstance(use, str):
        raise BadInputError(use)
    return Plan.of_preparations(teacher.name, preparations.runs, preparations.prepares)


def run_suite(  # noqa: PLR0913  (the options of the command, all by name)
    suite: SuiteFile | str,
    *,
    out: Path | str | None = None,
    executor: Literal["inline", "local"] = "local",
    jobs: int | None = None,
    device: str = "auto",
    data_root: Path | None = None,
    only: Sequence[str] = (),
    watch: Callable[[Snapshot], None] | None = None,
) -> Outcome:
    """Run what a suite's plan asks for and is not yet done, and write the report.

    Args:
        suite: a loaded suite, a shipped one's name, or a file.
        out: output folder; `runs/<suite>` by default.
        executor: `inline` runs in this process, `local` under a pool of workers.
        jobs: how many workers; one a core by default.
        device: `cpu`, `cuda`, `cuda:<n>`, or `auto` for a GPU where there is one.
        data_root: where relative paths are looked for beside the suite's folder and `$VITKD_DATA`.
        only: patterns `teacher:student:method:dataset`.
        watch: called with the state of the launch about once a second.

    Raises:
        BadInputError: the suite is wrong; nothing was run or written.
        WorldError: another launch holds the folder.
    """
    suite_file = load_suite(suite) if isinstance(suite, str) else suite
    folder = Path(out) if out is not None else Path("runs") / suite_file.suite.suite
    roots = data_roots(suite_file, data_root)
    options = LaunchOptions(executor=executor, jobs=jobs, device=resolve_device(device), roots=roots)
    store, waiting = Store(folder), True
    while waiting:
        plan = plan_suite(suite_file, data_root=data_root, only=only, check=True, out=folder)
        outcome = launch(plan, store, Preparations(), options, watch)
        waiting = bool(plan.waiting) and not outcome.exit_code
    if not outcome.interrupted:
        write_report([folder], folder / "report")
    return outcome


def load_records(*folders: Path | str) -> pd.DataFrame:
    """Read the records of output folders into one frame, a row a run and split."""
    return table([Path(folder) for folder in folders])


def create_teacher(
    name: str,
    *,
    weights: Path | str | None = None,
    image_size: int | None = None,
    backend: Backend | None = None,
) -> ViTNetwork:
    """Load a teacher, in eval mode and without gradients.

    Args:
        name: family/size.
        weights: a file or folder of one's own; what was fetched or made by default.
        image_size: the side in pixels at which it is used; the contract's by default.
        backend: which of the contract's sources builds it.

    Raises:
        WorldError: its weights are not here; the message names `vitkd teachers fetch`.
    """
    teacher = TEACHERS.get(name)
    architecture = teacher.architecture.with_(image_size=image_size or teacher.architecture.image_size)
    if weights is not None:
        return load_teacher(teacher, architecture, Path(weights), backend)
    if teacher.training is None:
        found = WeightCache().find(teacher, backend)
        if found is None:
            command = fetch_command(teacher, backend)
            raise WorldError(f"teacher {name} is not fetched: {command or 'give weights=FILE'}")
        return load_teacher(teacher, architecture, found.path, backend)
    plan = plan_teacher(name)
    made = next(reversed(plan.preparations))
    preparations = Preparations()
    if preparations.ready(made) is None:
        raise WorldError(f"teacher {name} is not made yet: {fetch_command(teacher)}")
    return load_teacher(teacher, architecture, preparations.weights(made))


def create_student(
    student: str, teacher: str, *, num_classes: int, seed: int = 0, image_size: int | None = None
) -> ViTNetwork:
    """Build a student `kind[@size]` of a teacher, every weight random and drawn from `seed`."""
    facts = TEACHERS.get(teacher)
    architecture = facts.architecture.with_(image_size=image_size or facts.architecture.image_size)
    resolved = resolve_student(parse_student(student), architecture)
    return _create_student(resolved, num_classes, facts.pixels, seed)
