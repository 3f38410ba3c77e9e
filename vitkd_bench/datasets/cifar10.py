"""CIFAR-10 (Krizhevsky, 2009; https://www.cs.toronto.edu/~kriz/cifar.html)."""

from __future__ import annotations

from vitkd_bench.datasets._cifar import CifarSettings, facts_of
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import PixelStats

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

DATASETS.register(
    facts_of(
        "cifar10",
        NAMES,
        PixelStats(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)),  # of its train part
        "cifar-10-python.tar.gz",
        "cifar-10-batches-py",
    ),
    CifarSettings,
)
