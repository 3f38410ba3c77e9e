"""The command line: parses and calls."""

from vitkd_bench.cli.app import main

__all__ = ["main"]
