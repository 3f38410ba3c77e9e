"""The registry: shelves are walked, nothing is listed by hand."""

from vitkd_bench.registry.controls import CONTROLS, ControlEntry
from vitkd_bench.registry.fetching import fetch_command, own_file
from vitkd_bench.registry.shelf import (
    DATASETS,
    KINDS,
    METHODS,
    RECIPES,
    TEACHERS,
    DatasetEntry,
    MethodEntry,
    Shelf,
    load_extension,
)

__all__ = [
    "CONTROLS",
    "DATASETS",
    "KINDS",
    "METHODS",
    "RECIPES",
    "TEACHERS",
    "ControlEntry",
    "DatasetEntry",
    "MethodEntry",
    "Shelf",
    "fetch_command",
    "load_extension",
    "own_file",
]
