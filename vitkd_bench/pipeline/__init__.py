"""Splits, shift splits, shared views and batches."""

from vitkd_bench.pipeline.resolve import resolve_dataset
from vitkd_bench.pipeline.splits import Splits, open_splits
from vitkd_bench.pipeline.stream import TrainStream, eval_batches, plain_batches

__all__ = ["Splits", "TrainStream", "eval_batches", "open_splits", "plain_batches", "resolve_dataset"]
