"""From output folders to the files of a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vitkd_bench.records import write_atomically
from vitkd_bench.report.board import Board, build_board
from vitkd_bench.report.heatmaps import draw, heatmaps
from vitkd_bench.report.site import picture, to_html
from vitkd_bench.report.tables import to_csv, to_latex, to_markdown


def write_report(stores: Sequence[Path], out: Path) -> list[Path]:
    """Write leaderboard, heatmaps and page for the records of some output folders.

    Works on partial results: what failed, is missing or was refused is shown as such. Equal plans and records
    give equal bytes on one machine.

    Args:
        stores: output folders of runs, each with its `plan.json`.
        out: where the report goes; `OUT/report` by custom. Links to records are relative to it.

    Returns:
        The files written: `leaderboard.md`, `.csv`, `.tex`, `index.html` and `figures/*.png`, `*.svg`.

    Raises:
        BadInputError: a folder has no plan.
        VitkdError: a plan is damaged, or results must not stand in one table; nothing is written then.
    """
    contents = render(build_board(stores, out))
    for stale in sorted((out / "figures").glob("heatmap-*")):
        if f"figures/{stale.name}" not in contents:
            stale.unlink()
    for name, content in contents.items():
        write_atomically(out / name, content, durable=False)
    return [out / name for name in contents]


def render(board: Board) -> dict[str, bytes]:
    """Make all files of a report, by their path inside it."""
    contents: dict[str, bytes] = {}
    pictures = []
    for heatmap in heatmaps(board):
        drawn = draw(heatmap)
        contents |= {f"figures/{heatmap.name}.{kind}": drawn[kind] for kind in sorted(drawn)}
        pictures.append(picture(heatmap, drawn))
    texts = {
        "leaderboard.md": to_markdown(board),
        "leaderboard.csv": to_csv(board),
        "leaderboard.tex": to_latex(board),
        "index.html": to_html(board, pictures),
    }
    return {**{name: text.encode() for name, text in texts.items()}, **contents}
