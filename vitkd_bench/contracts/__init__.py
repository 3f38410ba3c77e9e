"""Interfaces of method, network and data, and the names of taps. Imports no torch."""

from vitkd_bench.contracts.cell import CellFacts, class_indices
from vitkd_bench.contracts.data import Examples, Reader
from vitkd_bench.contracts.features import Batch, Features
from vitkd_bench.contracts.method import Method, TeacherRun
from vitkd_bench.contracts.needs import NEEDS, unmet
from vitkd_bench.contracts.network import Network

__all__ = [
    "NEEDS",
    "Batch",
    "CellFacts",
    "Examples",
    "Features",
    "Method",
    "Network",
    "Reader",
    "TeacherRun",
    "class_indices",
    "unmet",
]
