"""Typed, frozen descriptions of all that is written down. Imports no torch.

The names below are loaded when they are first asked for: building the descriptions takes longer than most of
what needs no more than an error or a folder.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitkd_bench.spec.architecture import (
        NAMED_COMPONENTS,
        SIZES,
        Architecture,
        Components,
        InitialValues,
        Size,
    )
    from vitkd_bench.spec.base import Frozen, Settings, validation_line
    from vitkd_bench.spec.canonical import canonical_json, content_hash, file_sha256
    from vitkd_bench.spec.dataset import (
        Carved,
        ClassInfo,
        Dataset,
        DatasetSettings,
        ResolvedDataset,
        Subset,
        Validation,
        alternatives,
    )
    from vitkd_bench.spec.errors import (
        BadInputError,
        DamagedFileError,
        VitkdError,
        WorldError,
        WrongHashError,
        in_words,
        nearest,
    )
    from vitkd_bench.spec.folders import cache_folder
    from vitkd_bench.spec.plan import Cell, MethodFacts, Pack, Plan, Refusal, Search, Source, TeacherFacts
    from vitkd_bench.spec.recipe import Augmentation, Recipe
    from vitkd_bench.spec.record import CellNames, Failure, Record
    from vitkd_bench.spec.run import SELF, ControlUse, MethodUse, Run, TeacherUse
    from vitkd_bench.spec.seeds import seeded
    from vitkd_bench.spec.student import StudentEntry, parse_student, resolve_student
    from vitkd_bench.spec.suite import SearchRule, Suite, TeacherEntry
    from vitkd_bench.spec.teacher import (
        HALF_PIXELS,
        IMAGENET_PIXELS,
        OPENAI_PIXELS,
        Accuracy,
        Backend,
        Head,
        PixelStats,
        PositionInterpolation,
        Teacher,
        Training,
        WeightSource,
    )
    from vitkd_bench.spec.versions import VERSIONS
    from vitkd_bench.spec.yaml_reader import Document, parse_yaml, read_yaml

__all__ = [
    "HALF_PIXELS",
    "IMAGENET_PIXELS",
    "NAMED_COMPONENTS",
    "OPENAI_PIXELS",
    "SELF",
    "SIZES",
    "VERSIONS",
    "Accuracy",
    "Architecture",
    "Augmentation",
    "Backend",
    "BadInputError",
    "Carved",
    "Cell",
    "CellNames",
    "ClassInfo",
    "Components",
    "ControlUse",
    "DamagedFileError",
    "Dataset",
    "DatasetSettings",
    "Document",
    "Failure",
    "Frozen",
    "Head",
    "InitialValues",
    "MethodFacts",
    "MethodUse",
    "Pack",
    "PixelStats",
    "Plan",
    "PositionInterpolation",
    "Recipe",
    "Record",
    "Refusal",
    "ResolvedDataset",
    "Run",
    "Search",
    "SearchRule",
    "Settings",
    "Size",
    "Source",
    "StudentEntry",
    "Subset",
    "Suite",
    "Teacher",
    "TeacherEntry",
    "TeacherFacts",
    "TeacherUse",
    "Training",
    "Validation",
    "VitkdError",
    "WeightSource",
    "WorldError",
    "WrongHashError",
    "alternatives",
    "cache_folder",
    "canonical_json",
    "content_hash",
    "file_sha256",
    "in_words",
    "nearest",
    "parse_student",
    "parse_yaml",
    "read_yaml",
    "resolve_student",
    "seeded",
    "validation_line",
]

_NAMES = {
    "architecture": "NAMED_COMPONENTS SIZES Architecture Components InitialValues Size",
    "base": "Frozen Settings validation_line",
    "canonical": "canonical_json content_hash file_sha256",
    "dataset": "Carved ClassInfo Dataset DatasetSettings ResolvedDataset Subset Validation alternatives",
    "errors": "BadInputError DamagedFileError VitkdError WorldError WrongHashError in_words nearest",
    "folders": "cache_folder",
    "plan": "Cell MethodFacts Pack Plan Refusal Search Source TeacherFacts",
    "recipe": "Augmentation Recipe",
    "record": "CellNames Failure Record",
    "run": "SELF ControlUse MethodUse Run TeacherUse",
    "seeds": "seeded",
    "student": "StudentEntry parse_student resolve_student",
    "suite": "SearchRule Suite TeacherEntry",
    "teacher": (
        "HALF_PIXELS IMAGENET_PIXELS OPENAI_PIXELS Accuracy Backend Head PixelStats PositionInterpolation "
        "Teacher Training WeightSource"
    ),
    "versions": "VERSIONS",
    "yaml_reader": "Document parse_yaml read_yaml",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """Load a public name from the module that it stands in, once."""
    if name not in _MODULES:
        raise AttributeError(f"module 'vitkd_bench.spec' has no attribute {name!r}")
    found = getattr(import_module(f"vitkd_bench.spec.{_MODULES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
