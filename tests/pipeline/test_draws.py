"""Random numbers by counter."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vitkd_bench.pipeline.draws import _GOLDEN, _mix, bits, normals, permutation, uniforms

keys = st.integers(0, 2**64 - 1)
SAMPLES = np.arange(4000)


@given(keys, st.lists(st.integers(0, 2**40), min_size=1, max_size=30), st.integers(1, 9))
def test_a_sample_draws_the_same_in_any_company(key: int, samples: list[int], count: int) -> None:
    """What a sample draws depends on neither the others, their order, nor how much is drawn."""
    together = normals(key, np.array(samples), count)
    raw = bits(key, np.array(samples), count)
    for i, sample in enumerate(samples):
        assert np.array_equal(together[i : i + 1], normals(key, np.array([sample]), count))
        assert np.array_equal(raw[:, i], bits(key, np.array([sample]), count + 3)[:count, 0])


@pytest.mark.parametrize("key", [0, 1, 2**63])
def test_uniforms_are_uniform_and_independent(key: int) -> None:
    """Neighbouring samples, rows and keys show no pattern that a run of 40,000 draws would reveal."""
    drawn = uniforms(key, SAMPLES, 10)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert all(stats.kstest(row, "uniform").pvalue > 1e-4 for row in drawn)
    rows = [*drawn, uniforms(key ^ 1, SAMPLES, 1)[0], np.roll(drawn[0], 1)]
    correlation = np.corrcoef(rows) - np.eye(12)
    assert np.abs(correlation).max() < 4.5 / np.sqrt(len(SAMPLES))


def test_normals_are_normal() -> None:
    """Mean, deviation, shape and tails are those of the normal distribution."""
    drawn = normals(7, SAMPLES, 5).ravel()
    assert stats.kstest(drawn, "norm").pvalue > 1e-4
    assert drawn.std() == pytest.approx(1, abs=0.02)
    assert 3.4 < np.abs(drawn).max() < 4.2


@given(keys, st.integers(0, 200))
def test_permutation_has_each_number_once(key: int, size: int) -> None:
    """A permutation is one, and the same each time."""
    order = permutation(key, size)
    assert sorted(order.tolist()) == list(range(size))
    assert np.array_equal(order, permutation(key, size))
    assert order.dtype == np.int64


def test_permutations_of_two_keys_differ() -> None:
    """Another key is another order, and neither is the order that came in."""
    first, second = permutation(1, 500), permutation(2, 500)
    assert len({tuple(first), tuple(second), tuple(range(500))}) == 3


def test_draws_are_pinned() -> None:
    """The generator is the same on every machine and in every version: its first words are written down."""
    assert bits(1, np.array([0, 1]), 2).tolist() == [
        [6755974106381971767, 8614008028692990056],
        [13665441387248026780, 633295910745529047],
    ]


def test_the_stream_is_splitmix() -> None:
    """From state 0 the words are those of the published generator (the first three of its reference code)."""
    steps = np.arange(1, 4, dtype=np.uint64) * _GOLDEN
    assert _mix(steps).tolist() == [16294208416658607535, 7960286522194355700, 487617019471545679]
