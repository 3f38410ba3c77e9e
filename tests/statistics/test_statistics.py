"""Our short statistics against scipy, statsmodels and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from vitkd_bench.statistics import (
    Interval,
    holm,
    paired_bootstrap,
    paired_delta,
    smallest_detectable,
    t_interval,
    t_test,
    verdict,
)

numbers = st.floats(-1e3, 1e3, allow_nan=False)
samples = st.lists(numbers, min_size=2, max_size=12).filter(lambda v: np.std(v) > 1e-6)


@given(values=samples, level=st.sampled_from([0.8, 0.95, 0.99]))
def test_t_interval_is_scipys(values: list[float], level: float) -> None:
    """Mean, bounds and p value agree with scipy's one-sample t test."""
    ours, theirs = t_interval(values, level), stats.ttest_1samp(values, 0.0)
    low, high = theirs.confidence_interval(level)
    assert [ours.low, ours.high] == pytest.approx([low, high], abs=1e-8)
    assert t_test(ours) == pytest.approx(theirs.pvalue, abs=1e-8)
    assert ours.sd == pytest.approx(np.std(values, ddof=1))


@given(values=samples, seed=st.randoms())
def test_order_of_seeds_changes_no_bit(values: list[float], seed: object) -> None:
    """A mean over seeds is a function of the set of values, to the last bit."""
    shuffled = values.copy()
    seed.shuffle(shuffled)  # type: ignore[attr-defined]
    assert t_interval(shuffled) == t_interval(values)


def test_one_value_has_no_interval() -> None:
    """One seed gives a mean and no bounds, no spread, no p value and no NaN."""
    only = t_interval([0.5])
    assert only == Interval(0.5, None, None, 1)
    assert only.half_width is None
    assert t_test(only) is None
    assert only.scaled(100) == Interval(50.0, None, None, 1)


@pytest.mark.parametrize("values", [[], [math.nan, 1.0], [math.inf]])
def test_values_must_be_numbers(values: list[float]) -> None:
    """An interval of nothing or of what is no number is an error, not NaN."""
    with pytest.raises(ValueError, match="finite values"):
        t_interval(values)


def test_agreement_of_coarse_values_is_no_certainty() -> None:
    """Two seeds with equal accuracy on 360 images leave an interval as wide as rounding."""
    half = t_interval([0.9, 0.9], step=1 / 360).half_width
    assert half == pytest.approx(12.7062 / 360 / math.sqrt(12) / math.sqrt(2), rel=1e-4)
    equal = paired_delta({0: 0.91, 1: 0.91}, {0: 0.90, 1: 0.90}, images=360)
    assert equal is not None
    assert verdict(equal.interval) == "undecided"


@pytest.mark.parametrize("n", [2, 3, 5])
def test_t_interval_holds_its_level(n: int) -> None:
    """Of 4,000 simulated samples 95 % have the true mean in their interval, also at two values."""
    draws = np.random.default_rng(0).normal(3.0, 2.0, size=(4000, n))
    covered = [
        interval.low <= 3.0 <= interval.high
        for interval in map(t_interval, draws)
        if interval.low is not None and interval.high is not None
    ]
    assert len(covered) == 4000
    assert np.mean(covered) == pytest.approx(0.95, abs=0.0125)


def test_delta_by_hand() -> None:
    """Seeds are paired; the difference is in percentage points; odd seeds are named and left out."""
    delta = paired_delta({0: 0.80, 1: 0.82, 2: 0.5}, {1: 0.80, 0: 0.79, 7: 0.1})
    assert delta is not None
    assert delta.by_seed == pytest.approx({0: 1.0, 1: 2.0})
    assert delta.unpaired == (2, 7)
    # mean 1.5, sd 1/sqrt(2), standard error 1/2, t(1 df, 97.5 %) = 12.7062
    assert delta.interval.mean == pytest.approx(1.5)
    assert delta.interval.low == pytest.approx(1.5 - 12.7062 / 2, abs=1e-4)
    assert paired_delta({0: 0.8}, {1: 0.8}) is None


@given(low=numbers, width=st.floats(0, 100))
def test_verdict_follows_the_bounds(low: float, width: float) -> None:
    """Above zero transfers, below fails, anything that touches zero is undecided."""
    high = low + width
    expected = "transfers" if low > 0 else "fails" if high < 0 else "undecided"
    assert verdict(Interval((low + high) / 2, low, high, 3)) == expected
    assert verdict(Interval(low, None, None, 1)) == "undecided"


@pytest.mark.parametrize("p", [[0.04], [0.01, 0.01, 0.2], [0.3, 0.001, 0.02, 0.02, 1.0, 0.0, 0.9]])
def test_holm_is_statsmodels(p: list[float]) -> None:
    """Adjusted p values agree with statsmodels."""
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-12)


@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_order_and_only_raises(p: list[float]) -> None:
    """A smaller p value stays the smaller one; none falls, none passes one or its Bonferroni bound."""
    adjusted = holm(p)
    assert sorted(adjusted) == [adjusted[i] for i in sorted(range(len(p)), key=lambda i: p[i])]
    assert all(raw <= new <= 1.0 for raw, new in zip(p, adjusted, strict=True))
    assert min(adjusted) == min(1.0, len(p) * min(p))


def test_holm_of_nothing() -> None:
    """No tests, no p values."""
    assert holm([]) == []


def test_smallest_detectable_of_two_pairs_by_simulation() -> None:
    """Two pairs whose true delta is the smallest detectable one show it in 80 % of 4,000 trials."""
    delta = smallest_detectable(2, 1.0)
    assert delta is not None
    draws = np.random.default_rng(0).normal(delta, 1.0, size=(4000, 2))
    assert np.mean([verdict(t_interval(pair)) == "transfers" for pair in draws]) == pytest.approx(
        0.8, abs=0.02
    )


@pytest.mark.parametrize("n", [3, 5, 10])
def test_smallest_detectable_is_statsmodels(n: int) -> None:
    """The delta that is seen with power 0.8 is the one of statsmodels' t test power."""
    found = smallest_detectable(n, 2.0)
    assert found is not None
    assert TTestPower().power(found / 2.0, n, 0.05) == pytest.approx(0.8, abs=1e-3)


def test_one_pair_detects_nothing() -> None:
    """One seed cannot show any delta; more seeds show smaller ones; no spread shows all."""
    assert smallest_detectable(1, 1.0) is None
    found = [smallest_detectable(n, 1.0) or math.inf for n in range(2, 8)]
    assert found == sorted(found, reverse=True)
    assert smallest_detectable(3, 0.0) == 0.0


def test_bootstrap_is_a_function_of_its_seed() -> None:
    """Equal seeds give equal bits, and its mean is the plain difference."""
    right = np.random.default_rng(1).random((3, 200)) < 0.8
    worse = right & (np.random.default_rng(2).random((3, 200)) < 0.9)
    first = paired_bootstrap(right, worse, seed=5)
    assert first == paired_bootstrap(right, worse, seed=5)
    assert first != paired_bootstrap(right, worse, seed=6)
    assert first.mean == pytest.approx(100 * (right.mean() - worse.mean()))
    assert first.low is not None
    assert verdict(first) == "transfers"
    assert paired_bootstrap(right, right).high == 0.0


def test_bootstrap_spread_over_images_is_the_binomial_one() -> None:
    """With one seed and independent errors its width is that of the normal approximation over images."""
    generator = np.random.default_rng(3)
    first, second = generator.random((2, 1, 2000)) < 0.7
    interval = paired_bootstrap(first, second, draws=4000)
    expected = 1.96 * 100 * np.std(first.astype(int) - second.astype(int)) / math.sqrt(2000)
    assert interval.half_width == pytest.approx(expected, rel=0.06)


def test_bootstrap_needs_pairs() -> None:
    """Arrays that do not pair are refused."""
    with pytest.raises(ValueError, match="one shape"):
        paired_bootstrap(np.ones((2, 3), bool), np.ones((2, 4), bool))
