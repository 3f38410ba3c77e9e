"""Numbers as people read them: percent with one decimal, deltas with their sign."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from vitkd_bench.statistics import Interval

NONE = "–"


def percent(fraction: float | None) -> str:
    """A share in percent, `93.4`."""
    return NONE if fraction is None else f"{100 * fraction:.1f}"


def percent_interval(interval: Interval | None) -> str:
    """A share in percent with the half width of its interval, `93.4 ± 1.2`; no half width for one seed."""
    if interval is None:
        return NONE
    half = interval.half_width
    return percent(interval.mean) + ("" if half is None else f" ± {100 * half:.1f}")


def points(value: float | None) -> str:
    """A difference in percentage points, always signed, `+1.2`; what rounds to nothing is `0.0`."""
    if value is None:
        return NONE
    text = f"{value:+.1f}"
    return "0.0" if text in {"+0.0", "-0.0"} else text


def bounds(interval: Interval | None) -> str:
    """The bounds of a difference in percentage points, `[-0.3, +2.7]`, or nothing."""
    if interval is None or interval.low is None or interval.high is None:
        return ""
    return f"[{points(interval.low)}, {points(interval.high)}]"


def points_interval(interval: Interval | None) -> str:
    """A difference in percentage points with its bounds, `+1.2 [-0.3, +2.7]`."""
    return f"{points(interval.mean)} {bounds(interval)}".strip() if interval else NONE


def probability(p: float | None) -> str:
    """A p value with two decimals where that says something."""
    if p is None:
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def count(number: int, noun: str) -> str:
    """A number with its noun, `1 run`, `2 runs`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def setting(value: Any) -> str:
    """A setting's value as a suite would give it, `0.3`, `first:2`, `[0, 1]`; `default` for none."""
    if value is None or isinstance(value, str):
        return value or "default"
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, sort_keys=True)


def settings_text(settings: Mapping[str, Any]) -> str:
    """Some settings with their values, `weight 0.3, layers first:2`."""
    return ", ".join(f"{name} {setting(value)}" for name, value in settings.items())
