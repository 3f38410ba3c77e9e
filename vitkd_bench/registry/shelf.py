"""One small generic registry for teachers, methods, data sets and recipes.

A shelf fills itself on first use: it imports every module of its package (`_` names excepted), reads the YAML
files beside them, and then loads entry points of other installed packages. A suite adds files of its own.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from vitkd_bench.contracts import NEEDS, CellFacts, Method, unmet
from vitkd_bench.spec import (
    Architecture,
    BadInputError,
    Dataset,
    DatasetSettings,
    Recipe,
    Settings,
    Teacher,
    nearest,
    read_yaml,
    validation_line,
)

Entry = TypeVar("Entry")
AnyMethod = TypeVar("AnyMethod", bound=type[Method])

KINDS = (
    "baseline",
    "attention",
    "weights",
    "logit",
    "feature",
    "relation",
    "online",
    "teacher",
    "pretraining",
    "probe",
    "store",
)
"""What a method transfers, or does: `teacher` methods change the teacher, `pretraining` makes one, `probe`
fits a head to its frozen features, `store` keeps its outputs."""


@dataclass(frozen=True, slots=True)
class MethodEntry:
    """A registered method: its facts and the class that does the work.

    `kind` is one of `KINDS`. `reads_teacher` says that the method needs one at training,
    `needs_teacher_at_test` also later; `needs` names what else a cell must have (`contracts.needs`).
    `version` rises when its numbers move.
    """

    name: str
    title: str
    kind: str
    paper: str
    method: type[Method]
    reads_teacher: bool = True
    needs_teacher_at_test: bool = False
    needs: tuple[str, ...] = ()
    version: int = 1
    budget: str = ""

    def __post_init__(self) -> None:
        """Refuse a kind or a need that nobody knows."""
        for what, given, known in (("kind", (self.kind,), KINDS), ("need", self.needs, NEEDS)):
            for name in given:
                if name not in known:
                    raise BadInputError(
                        f"method {self.name!r}: unknown {what} {name!r}{nearest(name, known)}"
                    )

    def teacher_at_test(self, config: Settings) -> bool:
        """Say whether the teacher is needed at test under these settings."""
        return self.needs_teacher_at_test or self.method.teacher_at_test(config)

    def needs_under(self, config: Settings) -> tuple[str, ...]:
        """Name what a cell must have for the method to work under these settings."""
        return (*self.needs, *self.method.also_needs(config))

    def refuses(self, config: Settings, cell: CellFacts) -> str | None:
        """Say in one sentence why this cell cannot work under these settings, or nothing."""
        return unmet(self.name, self.needs_under(config), cell) or self.method.refuses(config, cell)


@dataclass(frozen=True, slots=True)
class DatasetEntry:
    """A registered data set: its facts and the settings that a suite may give."""

    facts: Dataset
    settings: type[DatasetSettings] = DatasetSettings

    @property
    def name(self) -> str:
        """The registered name."""
        return self.facts.name


@dataclass
class Shelf(Generic[Entry]):
    """Entries of one kind by name."""

    kind: str
    package: str
    _entries: dict[str, Entry] = field(default_factory=dict)
    _origin: dict[str, str] = field(default_factory=dict)
    _walked: bool = False

    def add(self, name: str, entry: Entry, origin: str = "") -> None:
        """Put an entry on the shelf.

        Raises:
            BadInputError: the name is taken by an entry from elsewhere.
        """
        if name in self._entries and self._origin[name] != origin:
            raise BadInputError(
                f"{self.kind} {name!r} is defined twice: in {self._origin[name]} and in {origin}"
            )
        self._entries[name] = entry
        self._origin[name] = origin

    def get(self, name: str, where: str = "") -> Entry:
        """Find an entry.

        Raises:
            BadInputError: unknown name, with the nearest one; `where` is what the message opens with.
        """
        self._walk()
        if name not in self._entries:
            place = f"{where}: " if where else ""
            raise BadInputError(f"{place}unknown {self.kind} {name!r}{nearest(name, self._entries)}")
        return self._entries[name]

    def origin(self, name: str) -> str:
        """Name the file that an entry stands in."""
        self.get(name)
        return self._origin[name]

    def names(self) -> list[str]:
        """List all names, sorted."""
        self._walk()
        return sorted(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        """Give all entries in the order of their names."""
        return iter([self._entries[name] for name in self.names()])

    def _walk(self) -> None:
        if self._walked:
            return
        self._walked = True
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith("_"):
                importlib.import_module(f"{self.package}.{module.name}")
        if self.kind == "recipe":
            for folder in package.__path__:
                for path in sorted(Path(folder).glob("*.yaml")):
                    self.add(path.stem, _read_recipe(path), str(path))  # type: ignore[arg-type]
        for point in entry_points(group=self.package):
            point.load()


def _read_recipe(path: Path) -> Recipe:
    document = read_yaml(path)
    return Recipe.parse({**(document.data or {}), "name": path.stem}, str(path), document.lines)


def _defined_in(depth: int = 2) -> str:
    # inspect.stack() reads the source of every frame: seconds, once large libraries are imported
    return sys._getframe(depth).f_code.co_filename  # noqa: SLF001


Layout = Callable[[Mapping[str, Any], Architecture], dict[str, Any]]
"""Renames (and reshapes) an official file's tensors for the timm architecture that they go into."""


@dataclass
class TeacherShelf(Shelf[Teacher]):
    """Teachers by `family/size`, and the layouts of official files by name."""

    _layouts: dict[str, Layout] = field(default_factory=dict)

    def register(self, *teachers: Teacher) -> None:
        """Put teachers on the shelf."""
        for teacher in teachers:
            self.add(teacher.name, teacher, _defined_in())

    def register_layout(self, name: str) -> Callable[[Layout], Layout]:
        """Put the decorated renaming on the shelf, under the name that a `WeightSource.layout` gives.

        It takes the file's tensors by name, without those that are unused, and the architecture; it uses the
        tensors' own methods only, since this shelf is read without torch. It raises BadInputError where the
        file is of another kind, or the architecture not the one that the file was made for.
        """

        def keep(layout: Layout) -> Layout:
            self._layouts[name] = layout
            return layout

        return keep

    def layout(self, name: str) -> Layout:
        """Find a renaming.

        Raises:
            BadInputError: unknown name, with the nearest one.
        """
        self._walk()
        if name not in self._layouts:
            raise BadInputError(f"unknown layout {name!r} of weights{nearest(name, self._layouts)}")
        return self._layouts[name]


@dataclass
class DatasetShelf(Shelf[DatasetEntry]):
    """Data sets by name."""

    def register(self, facts: Dataset, settings: type[DatasetSettings] = DatasetSettings) -> None:
        """Put a data set on the shelf."""
        self.add(facts.name, DatasetEntry(facts, settings), _defined_in())


@dataclass
class MethodShelf(Shelf[MethodEntry]):
    """Methods by name."""

    _lines: dict[str, int] = field(default_factory=dict)

    def register(self, name: str, **facts: Any) -> Callable[[AnyMethod], AnyMethod]:
        """Put the decorated class on the shelf; `facts` are the fields of `MethodEntry`.

        Raises:
            BadInputError: the name is taken, by another file or further up in the same one.
        """
        line = sys._getframe(1).f_lineno  # noqa: SLF001

        def keep(method: AnyMethod) -> AnyMethod:
            origin = sys.modules[method.__module__].__file__ or ""
            before = self._lines.get(name) if self._origin.get(name) == origin else None
            if before not in {None, line}:  # the same line is the same file, run again
                raise BadInputError(f"method {name!r} is defined twice in {origin}: lines {before}, {line}")
            self.add(name, MethodEntry(name=name, method=method, **facts), origin)
            self._lines[name] = line
            return method

        return keep


TEACHERS = TeacherShelf("teacher", "vitkd_bench.teachers")
METHODS = MethodShelf("method", "vitkd_bench.methods")
DATASETS = DatasetShelf("data set", "vitkd_bench.datasets")
RECIPES: Shelf[Recipe] = Shelf("recipe", "vitkd_bench.recipes")


def load_extension(path: Path) -> None:
    """Run a file that registers entries of its own; the same file is run once a process.

    Raises:
        BadInputError: no such file, or it fails while it is run.
    """
    if not path.is_file():
        raise BadInputError(f"extension {path}: no such file")
    name = _module_name(path)
    if name in sys.modules:
        return
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise BadInputError(f"extension {path}: not a Python file")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    try:
        specification.loader.exec_module(module)
    except BadInputError:
        del sys.modules[name]
        raise
    except ValidationError as error:
        del sys.modules[name]
        line = _line_in(path, error)
        raise BadInputError(f"extension {path}{line}: {validation_line(error)}") from None
    except Exception as error:
        del sys.modules[name]
        raise BadInputError(
            f"extension {path}{_line_in(path, error)}: {type(error).__name__}: {error}"
        ) from error


def is_extension(path: Path) -> bool:
    """Say whether a file was loaded as an extension in this process."""
    return _module_name(path) in sys.modules


def _module_name(path: Path) -> str:
    return f"vitkd_extension_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"


def _line_in(path: Path, error: Exception) -> str:
    """Give `:12` for the last line of a file that an error passed through; nothing if it passed none."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).name == path.name]
    return f":{lines[-1]}" if lines else ""
