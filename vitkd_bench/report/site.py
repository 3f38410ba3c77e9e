"""One self-contained page: opens from disk, needs no network, works without scripts."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from jinja2 import Environment, PackageLoader, StrictUndefined

from vitkd_bench.report.beside import beside_tables
from vitkd_bench.report.board import Board
from vitkd_bench.report.contamination import LEGEND
from vitkd_bench.report.heatmaps import Heatmap
from vitkd_bench.report.rows import Row
from vitkd_bench.report.summary import summary
from vitkd_bench.report.tables import (
    CONTROLS,
    CONTROLS_EXPLAINED,
    FAILURES,
    FAMILIES,
    LEADERBOARD,
    REFUSALS,
    SEARCHES,
    SEARCHES_EXPLAINED,
    control_cells,
    explanation,
    failure_cells,
    family_cells,
    leaderboard_cells,
    refusal_cells,
    search_cells,
    tried_cells,
    without_trials,
)

_SORTED_BY = {"Top-1 (%)", "Per class (%)", "Delta (pp)", "Seeds", "p (Holm)"}


@dataclass(frozen=True, slots=True)
class Picture:
    """A heatmap as the page embeds it, with the files that stand beside the page."""

    title: str
    alt: str
    data: str
    files: tuple[str, ...]


def to_html(board: Board, pictures: Sequence[Picture]) -> str:
    """Write the page."""
    environment = Environment(
        loader=PackageLoader("vitkd_bench.report"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(
        leaderboard_cells=leaderboard_cells,
        control_cells=control_cells,
        controls_explained=CONTROLS_EXPLAINED,
        family_cells=family_cells,
        refusal_cells=refusal_cells,
        failure_cells=failure_cells,
        search_cells=search_cells,
        tried_cells=tried_cells,
        without_trials=without_trials,
        searches_explained=SEARCHES_EXPLAINED,
        counted=counted,
        leading_number=leading_number,
        sort_keys=sort_keys,
        numeric=_SORTED_BY,
    )
    return environment.get_template("index.html.j2").render(
        board=board,
        sentences=summary(board),
        explanation=explanation(board),
        legend=LEGEND if board.has_seen else "",
        beside=[list(tables) for _, tables in groupby(beside_tables(board), key=lambda table: table.what)],
        pictures=pictures,
        headers={
            "leaderboard": LEADERBOARD,
            "controls": CONTROLS,
            "searches": SEARCHES,
            "families": FAMILIES,
            "refusals": REFUSALS,
            "failures": FAILURES,
        },
    )


def counted(board: Board) -> list[tuple[int, str]]:
    """Give the counts of runs, cells and trials, each with what it counts."""
    other = {"refused": "refused cells", "waiting": "cells waiting for trials"}
    other["trials_done"] = f"of {board.counts.get('trials')} trials done"
    return [
        (number, other.get(name, f"runs {name}")) for name, number in board.counts.items() if name != "trials"
    ]


def leading_number(text: str) -> str:
    """Give the number that a cell begins with, by which a script sorts it, or nothing."""
    found = re.match(r"[+-]?\d+(\.\d+)?", text)
    return found.group() if found else ""


def picture(heatmap: Heatmap, drawn: Mapping[str, bytes]) -> Picture:
    """Embed a drawn heatmap as an image of its own, so that two drawings never share names."""
    data = base64.b64encode(drawn["svg"]).decode()
    files = tuple(f"figures/{heatmap.name}.{kind}" for kind in sorted(drawn))
    return Picture(heatmap.title, heatmap.alt, f"data:image/svg+xml;base64,{data}", files)


def sort_keys(row: Row) -> dict[str, float]:
    """Numbers by which a script sorts the columns whose text is no number; a baseline's delta is zero."""
    keys = {"Seeds": float(len(row.done))}
    if row.top1:
        keys["Top-1 (%)"] = row.top1.mean
    if row.macro is not None:
        keys["Per class (%)"] = row.macro
    if row.delta or row.is_baseline:
        keys["Delta (pp)"] = row.delta.interval.mean if row.delta else 0.0
    return keys
