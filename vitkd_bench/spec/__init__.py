"""Typed, frozen descriptions of all that is written down. Imports no torch."""

from vitkd_bench.spec.architecture import (
    NAMED_COMPONENTS,
    SIZES,
    Architecture,
    Components,
    InitialValues,
    Size,
)
from vitkd_bench.spec.base import Frozen, Settings
from vitkd_bench.spec.canonical import canonical_json, content_hash, file_sha256
from vitkd_bench.spec.dataset import ClassInfo, Dataset, DatasetSettings, ResolvedDataset, Subset, Validation
from vitkd_bench.spec.errors import (
    BadInputError,
    DamagedFileError,
    VitkdError,
    WorldError,
    WrongHashError,
    nearest,
)
from vitkd_bench.spec.folders import cache_folder
from vitkd_bench.spec.plan import Cell, MethodFacts, Pack, Plan, Refusal, Source, TeacherFacts
from vitkd_bench.spec.recipe import Augmentation, Recipe
from vitkd_bench.spec.record import CellNames, Failure, Record
from vitkd_bench.spec.run import MethodUse, Run, TeacherUse
from vitkd_bench.spec.seeds import seeded
from vitkd_bench.spec.student import StudentEntry, parse_student, resolve_student
from vitkd_bench.spec.suite import Suite, TeacherEntry
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
    "SIZES",
    "VERSIONS",
    "Accuracy",
    "Architecture",
    "Augmentation",
    "Backend",
    "BadInputError",
    "Cell",
    "CellNames",
    "ClassInfo",
    "Components",
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
    "cache_folder",
    "canonical_json",
    "content_hash",
    "file_sha256",
    "nearest",
    "parse_student",
    "parse_yaml",
    "read_yaml",
    "resolve_student",
    "seeded",
]
