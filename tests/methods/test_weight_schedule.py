import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitkd_bench.methods._schedule import Scheduled

KINDS = ("constant", "linear", "cosine")
SHARES = st.floats(0.01, 1.0)
PROGRESS = st.floats(0.0, 1.0)


def factor(schedule: str, share: float, progress: float) -> float:
    """Give the factor of a weight."""
    return Scheduled.parse({"schedule": schedule, "share": share}).factor(progress)


@given(st.sampled_from(KINDS), SHARES, PROGRESS, PROGRESS)
def test_weights_fall_from_one_to_nothing(schedule: str, share: float, one: float, other: float) -> None:
    """Every schedule starts at 1, never rises, and stays between 0 and 1."""
    early, late = sorted((one, other))
    assert factor(schedule, share, 0.0) == 1.0
    assert 0 <= factor(schedule, share, late) <= factor(schedule, share, early) <= 1


@given(st.sampled_from(KINDS), st.floats(0.01, 0.99), PROGRESS)
def test_after_its_share_the_weight_is_nothing(schedule: str, share: float, progress: float) -> None:
    """From the end of the share on the weight is 0."""
    if progress >= share:
        assert factor(schedule, share, progress) == 0.0


@given(PROGRESS)
def test_the_default_changes_nothing(progress: float) -> None:
    """Without a word the factor is exactly 1, to the last step."""
    assert Scheduled().factor(progress) == 1.0


@pytest.mark.parametrize(("schedule", "expected"), [("constant", 1.0), ("linear", 0.75), ("cosine", None)])
def test_a_quarter_of_the_way(schedule: str, expected: float | None) -> None:
    """At a quarter of the share: whole, three quarters, and cos^2(pi / 8)."""
    value = factor(schedule, 0.8, 0.2)
    assert value == pytest.approx(math.cos(math.pi / 8) ** 2 if expected is None else expected)
