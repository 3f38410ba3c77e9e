"""The registry: shelves are walked, nothing is listed by hand."""

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
    "DATASETS",
    "KINDS",
    "METHODS",
    "RECIPES",
    "TEACHERS",
    "DatasetEntry",
    "MethodEntry",
    "Shelf",
    "load_extension",
]
