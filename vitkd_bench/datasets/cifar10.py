"""CIFAR-10 (Krizhevsky, 2009; https://www.cs.toronto.edu/~kriz/cifar.html)."""

from __future__ import annotations

from vitkd_bench.datasets._cifar import register
from vitkd_bench.spec import PixelStats

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

register(
    "cifar10",
    NAMES,
    PixelStats(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)),  # of its train part
    "cifar-10-python.tar.gz",
    "cifar-10-batches-py",
)
