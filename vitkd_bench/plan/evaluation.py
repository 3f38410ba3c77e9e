"""On which splits and shift sets the runs of a suite are evaluated."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vitkd_bench.plan.inventory import Inventory
from vitkd_bench.plan.suite_file import SuiteFile
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import BadInputError, ResolvedDataset, Run, nearest
from vitkd_bench.spec.corruptions import CORRUPTIONS, corruption_refused, parse_corruption
from vitkd_bench.spec.shift_map import contradiction, map_classes


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Splits by data set, shift sets by the suite's name, and why some of these are not at hand."""

    splits: dict[str, tuple[str, ...]]
    shift_sets: dict[str, ResolvedDataset]
    absent: dict[str, str]


def planned_evaluation(suite_file: SuiteFile, inventory: Inventory, runs: Iterable[Run]) -> Evaluation:
    """Check what a suite evaluates on; val is always among it, and test where a shift set is.

    `runs` are those planned: corruptions are of images at the size of their students.

    Raises:
        BadInputError: a split or set that there is not, or a shift set that shares no two classes with a data
            set of the suite.
    """
    asked = suite_file.suite.evaluate
    datasets = [data for data in inventory.datasets.values() if isinstance(data, ResolvedDataset)]
    shift_sets = {k: v for k, v in inventory.shift_sets.items() if isinstance(v, ResolvedDataset)}
    absent = {k: v for k, v in inventory.shift_sets.items() if isinstance(v, str)}
    named = [_by_name(one, suite_file) for one in asked or () if isinstance(one, str)]
    named = [one for one in named if one not in inventory.shift_sets]
    for split in named:
        _refuse_unknown(split, suite_file)
    shown = {(run.dataset.name, run.student.image_size): run.dataset.channels for run in runs}
    for (name, side), channels in shown.items():
        made = [split.partition("/")[2] for split in named if split.startswith(f"{name}/")]
        _refuse_pointless(made, channels, side, suite_file)
    for label, shift in shift_sets.items():
        _refuse_strange(label, shift, datasets, suite_file)
    wanted = None if asked is None else {*named, *(["test"] if inventory.shift_sets else [])}
    return Evaluation({data.name: ("val", *_splits(data, wanted)) for data in datasets}, shift_sets, absent)


def _splits(dataset: ResolvedDataset, wanted: set[str] | None) -> tuple[str, ...]:
    own = [f"{dataset.name}/{shift}" for shift in dataset.shifts]
    if wanted is None:
        return ("test", *own)
    made = [f"{dataset.name}/{corruption}" for corruption in CORRUPTIONS]
    return tuple(split for split in dict.fromkeys(["test", *own, *made]) if split in wanted)


def _by_name(split: str, suite_file: SuiteFile) -> str:
    """Write `birds/fog@3` as `folder/fog@3`, where the suite calls the data set `folder` so (`as: birds`)."""
    label, slash, shift = split.partition("/")
    names = {entry.label: entry.name for entry in suite_file.suite.datasets}
    return f"{names[label]}/{shift}" if slash and label in names else split


def _refuse_unknown(split: str, suite_file: SuiteFile) -> None:
    """Refuse a split that no data set of the suite has, whether its files are at hand or not."""
    names = dict.fromkeys(entry.name for entry in suite_file.suite.datasets)
    own = [f"{name}/{shift}" for name in names for shift in DATASETS.get(name).facts.shifts]
    known = ["test", *own, *(entry.name for entry in DATASETS if entry.facts.role == "shift")]
    if split in known:
        return
    name, _, shift = split.partition("/")
    if name in names and "@" in shift:
        try:
            parse_corruption(shift)
        except BadInputError as error:
            raise BadInputError(f"{suite_file.path}: evaluate: {split}: {error}") from None
        return
    made = [f"{name}/{corruption}" for name in names for corruption in CORRUPTIONS]
    raise BadInputError(
        f"{suite_file.path}: evaluate: unknown split {split!r}{nearest(split, [*known, *made])}"
    )


def _refuse_pointless(named: Iterable[str], channels: int, side: int, suite_file: SuiteFile) -> None:
    """Refuse a corruption that would leave images of this size, or of one channel, as they are."""
    for corruption in named:
        if corruption not in CORRUPTIONS:
            continue
        if why := corruption_refused(*parse_corruption(corruption), channels, side):
            raise BadInputError(f"{suite_file.path}: evaluate: {corruption}: {why}")


def _refuse_strange(
    label: str, shift: ResolvedDataset, datasets: Iterable[ResolvedDataset], suite_file: SuiteFile
) -> None:
    known = list(datasets)
    for data in known:
        if wrong := contradiction(shift, data):
            raise BadInputError(f"{suite_file.path}: evaluate: {label}: {wrong}")
        if map_classes(shift, data) and shift.channels != data.channels:
            raise BadInputError(
                f"{suite_file.path}: evaluate: {label} has images of {shift.channels} channel(s), "
                f"{data.name} of {data.channels}"
            )
    if known and not any(map_classes(shift, data) for data in known):
        named = ", ".join(data.name for data in known)
        raise BadInputError(
            f"{suite_file.path}: evaluate: {label} shares no two classes with {named}; "
            "give its classes `<label space>_index`, or the same names"
        )
