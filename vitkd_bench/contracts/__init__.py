"""Interfaces of method, control, network and data, and the names of taps. Imports no torch."""

from vitkd_bench.contracts.cell import CellFacts, class_indices, logits_of
from vitkd_bench.contracts.control import READINGS, Control, OtherTeacher
from vitkd_bench.contracts.data import Examples, Images, KnownClass, Look, Part, Reader
from vitkd_bench.contracts.features import Batch, Features
from vitkd_bench.contracts.method import Method, TeacherRun
from vitkd_bench.contracts.needs import NEEDS, unmet
from vitkd_bench.contracts.network import Network

__all__ = [
    "NEEDS",
    "READINGS",
    "Batch",
    "CellFacts",
    "Control",
    "Examples",
    "Features",
    "Images",
    "KnownClass",
    "Look",
    "Method",
    "Network",
    "OtherTeacher",
    "Part",
    "Reader",
    "TeacherRun",
    "class_indices",
    "logits_of",
    "unmet",
]
