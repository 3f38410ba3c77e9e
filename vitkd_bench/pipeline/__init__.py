"""Splits, shift splits, shared views and batches."""

from vitkd_bench.pipeline.loader import IN_PROCESS, Loading, load, ready
from vitkd_bench.pipeline.resolve import resolve_dataset
from vitkd_bench.pipeline.splits import Splits, open_splits
from vitkd_bench.pipeline.stream import TrainStream, eval_batches, plain_batches, raw_batches

__all__ = [
    "IN_PROCESS",
    "Loading",
    "Splits",
    "TrainStream",
    "eval_batches",
    "load",
    "open_splits",
    "plain_batches",
    "raw_batches",
    "ready",
    "resolve_dataset",
]
