"""Measures of predictions and features: exact counts, sums in float64."""

from vitkd_bench.measures.classification import ECE_BINS, classification
from vitkd_bench.measures.fidelity import fidelity
from vitkd_bench.measures.neighbours import knn_accuracy
from vitkd_bench.measures.predictions import predictions

__all__ = ["ECE_BINS", "classification", "fidelity", "knn_accuracy", "predictions"]
