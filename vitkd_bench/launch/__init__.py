"""Packs to processes: inline or in local workers; claims, deaths, interrupts and progress."""

from vitkd_bench.launch.labels import run_labels
from vitkd_bench.launch.launcher import Outcome, launch
from vitkd_bench.launch.options import LaunchOptions, resolve_device
from vitkd_bench.launch.progress import Finished, Running, Snapshot

__all__ = [
    "Finished",
    "LaunchOptions",
    "Outcome",
    "Running",
    "Snapshot",
    "launch",
    "resolve_device",
    "run_labels",
]
