"""Typed, frozen descriptions of all that is written down. Imports no torch."""

from vitkd_bench.spec.architecture import NAMED_COMPONENTS, SIZES, Architecture, Components, Size
from vitkd_bench.spec.base import Frozen, Settings
from vitkd_bench.spec.canonical import canonical_json, content_hash
from vitkd_bench.spec.dataset import ClassInfo, Dataset, DatasetSettings, ResolvedDataset, Subset, Validation
from vitkd_bench.spec.errors import BadInputError, DamagedFileError, VitkdError, WorldError, nearest
from vitkd_bench.spec.plan import Cell, MethodFacts, Pack, Plan, Refusal, Source, TeacherFacts
from vitkd_bench.spec.recipe import Augmentation, Recipe
from vitkd_bench.spec.record import CellNames, Failure, Record
from vitkd_bench.spec.run import MethodUse, Run, TeacherUse
from vitkd_bench.spec.seeds import seeded
from vitkd_bench.spec.student import StudentEntry, parse_student, resolve_student
from vitkd_bench.spec.suite import Suite
from vitkd_bench.spec.teacher import HALF_PIXELS, IMAGENET_PIXELS, Head, PixelStats, Teacher, Training
from vitkd_bench.spec.versions import VERSIONS
from vitkd_bench.spec.yaml_reader import Document, parse_yaml, read_yaml

__all__ = [
    "HALF_PIXELS",
    "IMAGENET_PIXELS",
    "NAMED_COMPONENTS",
    "SIZES",
    "VERSIONS",
    "Architecture",
    "Augmentation",
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
    "MethodFacts",
    "MethodUse",
    "Pack",
    "PixelStats",
    "Plan",
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
    "TeacherFacts",
    "TeacherUse",
    "Training",
    "Validation",
    "VitkdError",
    "WorldError",
    "canonical_json",
    "content_hash",
    "nearest",
    "parse_student",
    "parse_yaml",
    "read_yaml",
    "resolve_student",
    "seeded",
]
