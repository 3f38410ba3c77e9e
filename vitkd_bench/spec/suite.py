"""A suite as written: lists of teachers, students, methods and data sets under a protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from vitkd_bench.spec.base import Frozen
from vitkd_bench.spec.student import StudentEntry
from vitkd_bench.spec.teacher import Backend, PositionInterpolation


def _entry(value: Any, own: tuple[str, ...] | None = None, rest: str = "settings", name: str = "name") -> Any:
    """Turn a bare name into an entry, and gather all keys that are not the entry's own under `rest`."""
    if isinstance(value, str):
        return {name: value}
    if own is None or not isinstance(value, dict) or rest in value:
        return value
    kept = {k: v for k, v in value.items() if k in own}
    return {**kept, rest: {k: v for k, v in value.items() if k not in own}}


def _entries(data: dict[str, Any]) -> dict[str, Any]:
    """Write every entry of a suite in its long form."""
    long = dict(data)
    for field, own in (
        ("datasets", ("name", "as")),
        ("methods", ("name", "as", "control")),
        ("teachers", None),
        ("students", None),
    ):
        if isinstance(data.get(field), list):
            long[field] = [_entry(value, own) for value in data[field]]
    if isinstance(data.get("evaluate"), list):
        long["evaluate"] = [_split_or_entry(value) for value in data["evaluate"]]
    if isinstance(data.get("methods"), list):
        long["methods"] = [_with_long_control(value) for value in long["methods"]]
    if "recipe" in data:
        long["recipe"] = _entry(data["recipe"], ("base",), "changes", "base")
    return long


def _split_or_entry(value: Any) -> Any:
    """Leave the name of a split or of a shift set as it is; gather the settings of one that has some."""
    return value if isinstance(value, str) else _entry(value, ("name", "as"))


def _with_long_control(method: Any) -> Any:
    if not isinstance(method, dict) or "control" not in method:
        return method
    return {**method, "control": _entry(method["control"], ("name",))}


class NamedEntry(Frozen):
    """An entry of a registry, under a name of the suite's own if it gives one."""

    name: str
    as_: str | None = Field(default=None, alias="as")

    @property
    def label(self) -> str:
        """The name by which tables call it."""
        return self.as_ or self.name


class DatasetEntry(NamedEntry):
    """A data set with settings of its own."""

    settings: dict[str, Any] = {}


class ControlEntry(Frozen):
    """A control of a method, with settings of its own; they can be swept as a method's can."""

    name: str
    settings: dict[str, Any] = {}


class MethodEntry(NamedEntry):
    """A method with settings of its own, each a value, a sweep or a search.

    A setting `{sweep: [...]}` makes one variant a value; one written `{search: [...]}` takes in each cell the
    value that is best on val. With a `control` it is that control of the method, called `method+control`
    unless `as` says otherwise.
    """

    settings: dict[str, Any] = {}
    control: ControlEntry | None = None

    @property
    def label(self) -> str:
        """The name by which tables call it."""
        return self.as_ or (f"{self.name}+{self.control.name}" if self.control else self.name)

    @property
    def searched(self) -> dict[str, Any]:
        """The settings that are searched for, with what stands in place of their value."""
        given = self.settings.items()
        return {k: v["search"] for k, v in given if isinstance(v, dict) and set(v) == {"search"}}


class TeacherEntry(NamedEntry):
    """A teacher; `weights` is a file of one's own, `image_size` the side in pixels at which it is used.

    `backend` says whose form of the network and of the file is meant, the contract's first where it is left
    out; `position_interpolation` how a position embedding is brought to another grid. `head` says where
    logits come from, for methods that read them: the `own` head, a linear `probe` that is fitted on its
    frozen features to the cell's data first, or one made of `text`, the names of the cell's classes, by the
    text tower that stands in the file of its weights.
    """

    weights: str | None = None
    image_size: int | None = Field(default=None, gt=0)
    backend: Backend | None = None
    position_interpolation: PositionInterpolation | None = None
    head: Literal["own", "probe", "text"] = "own"


class RecipeEntry(Frozen):
    """A recipe by name, or a base with fields changed."""

    base: str
    changes: dict[str, Any] = {}


class Exclusion(Frozen):
    """Cells left out on purpose: patterns (`*` matches all) and the sentence that the report prints."""

    teacher: str = "*"
    student: str = "*"
    method: str = "*"
    dataset: str = "*"
    because: str


_SPLITS = ("train", "val", "test")


class SearchRule(Frozen):
    """How settings written as `{search: [...]}` are chosen on val.

    Trials are trained under `seeds`, which are none of the suite's own; `budget` is the number of trials that
    every method of a cell may spend, over all of its settings.
    """

    seeds: tuple[int, ...] = Field(default=(100,), min_length=1)
    budget: int = Field(default=9, gt=0)


class Suite(Frozen):
    """One YAML file. `suite` names it and its output folder.

    `evaluate` names splits of the data sets (`test`, `digits/rotate`, `imagenet1k/fog@3`) and shift sets, as
    the shelf calls them or with settings of their own.
    """

    suite: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    version: Literal[1]
    datasets: tuple[DatasetEntry, ...] = Field(min_length=1)
    extensions: tuple[str, ...] = ()
    recipe: RecipeEntry
    teachers: tuple[TeacherEntry, ...] = Field(min_length=1)
    students: tuple[StudentEntry, ...] = Field(min_length=1)
    methods: tuple[MethodEntry, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    search: SearchRule = SearchRule()
    evaluate: tuple[str | DatasetEntry, ...] | None = None
    keep: Literal["none", "student"] = "none"
    exclude: tuple[Exclusion, ...] = ()

    @classmethod
    def parse(cls, data: Any, where: str = "", lines: Mapping[tuple[Any, ...], int] | None = None) -> Self:
        """Check a suite as a file gives it, short forms included; see `Frozen.parse`."""
        return super().parse(_entries(data) if isinstance(data, dict) else data, where, lines)

    @property
    def evaluated(self) -> tuple[DatasetEntry, ...]:
        """What `evaluate` names that is not a split by its form, as entries: shift sets."""
        named = [DatasetEntry(name=one) if isinstance(one, str) else one for one in self.evaluate or ()]
        return tuple(entry for entry in named if entry.name != "test" and "/" not in entry.name)

    @model_validator(mode="after")
    def _shift_sets_are_no_splits(self) -> Suite:
        for entry in self.evaluated:
            if entry.label in _SPLITS or "/" in entry.label:
                raise ValueError(
                    f"evaluate: {entry.label!r} is how a split of a data set is called; name the shift set "
                    "otherwise with as: ..."
                )
        return self

    @model_validator(mode="after")
    def _nothing_twice(self) -> Suite:
        for field in ("datasets", "evaluate", "teachers", "students", "methods"):
            named = getattr(self, field) or ()
            labels = [entry if isinstance(entry, str) else entry.label for entry in named]
            twice = sorted({label for label in labels if labels.count(label) > 1})
            if twice:
                raise ValueError(f"{field}: {twice[0]!r} stands twice; tell the two apart with as: ...")
        if len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds: each one once and none negative, got {list(self.seeds)}")
        shared = sorted(set(self.seeds) & set(self.search.seeds))
        if shared and any(method.searched for method in self.methods):
            raise ValueError(
                f"search.seeds: {shared[0]} is a seed of the suite; choose by seeds of their own"
            )
        return self
