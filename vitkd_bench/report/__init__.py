"""Records to tables, figures and one page. Imports no torch."""

from vitkd_bench.report.board import Board, build_board
from vitkd_bench.report.gather import MixedError
from vitkd_bench.report.write import render, write_report

__all__ = ["Board", "MixedError", "build_board", "render", "write_report"]
