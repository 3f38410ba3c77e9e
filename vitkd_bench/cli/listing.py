"""The list of teachers: read from an index, while the state of their weights is looked at each time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vitkd_bench.cli.console import show_json, show_table
from vitkd_bench.cli.teacher_index import teacher_rows
from vitkd_bench.fetch import State, WeightCache

_COLUMNS = {
    "name": "name",
    "family": "family",
    "group": "group",
    "published": "outcome",
    "certainty": "certainty",
    "weights": "weights",
    "objective": "objective",
    "components": "native_components",
}


@dataclass(frozen=True, slots=True)
class _Source:
    backend: str
    location: str | None
    sha256: str | None


def list_teachers(*, as_json: bool) -> None:
    """Print all teachers, as a table or as JSON."""
    rows = with_states(teacher_rows())
    if as_json:
        show_json(rows)
        return
    told = [{**row, "weights": _in_short(row["weights"])} for row in rows]
    show_table(tuple(_COLUMNS), [tuple(row[key] for key in _COLUMNS.values()) for row in told])


def with_states(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put `weights`, the state of each backend's file, in place of `sources`; none of those made here."""
    sought = [(row["name"], _Source(**source)) for row in rows for source in row["sources"]]
    states = WeightCache().states(sought)
    return [
        {
            **{key: value for key, value in row.items() if key != "sources"},
            "weights": {one["backend"]: states[row["name"], one["backend"]] for one in row["sources"]},
        }
        for row in rows
    ]


def _in_short(states: dict[str, State]) -> str:
    by_state: dict[str, list[str]] = {}
    for backend, state in states.items():
        by_state.setdefault(state, []).append(backend)
    if set(by_state) == {"not fetched"}:
        return "not fetched"
    told = [f"{state}: {', '.join(by_state[state])}" for state in ("here", "changed") if state in by_state]
    return "; ".join(told) or "made here"
