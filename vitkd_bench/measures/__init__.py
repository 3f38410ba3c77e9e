"""Measures of predictions and features: exact counts, sums in float64."""

from vitkd_bench.measures.arrays import NotFiniteError
from vitkd_bench.measures.class_maps import ClassMap, answers_over_all, restricted
from vitkd_bench.measures.classification import ECE_BINS, classification
from vitkd_bench.measures.fidelity import fidelity
from vitkd_bench.measures.groups import groups
from vitkd_bench.measures.neighbours import knn_accuracy
from vitkd_bench.measures.predictions import predictions
from vitkd_bench.measures.shifts import Scored, clean, drop, mapped, shifted

__all__ = [
    "ECE_BINS",
    "ClassMap",
    "NotFiniteError",
    "Scored",
    "answers_over_all",
    "classification",
    "clean",
    "drop",
    "fidelity",
    "groups",
    "knn_accuracy",
    "mapped",
    "predictions",
    "restricted",
    "shifted",
]
