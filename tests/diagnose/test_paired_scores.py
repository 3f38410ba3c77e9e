"""The statistics behind a verdict: exact where they can be, and blind to what must not count."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from vitkd_bench.diagnose.paired import accuracy_interval, compare, knn_hits, nearest_mean_scores
from vitkd_bench.diagnose.probe import Reading
from vitkd_bench.diagnose.scores import Targets, fitted_loss, paired_t, score

hits = arrays(bool, 40)


@given(hits, hits)
def test_a_comparison_is_the_exact_sign_test(twin: np.ndarray, declared: np.ndarray) -> None:
    """The p values are those of scipy's binomial test on the images that only one gets right."""
    found = compare(twin, declared)
    wins, losses = int((twin & ~declared).sum()), int((~twin & declared).sum())
    for p, right in ((found.p, wins), (found.p_against, losses)):
        known = stats.binomtest(right, wins + losses, alternative="greater").pvalue if wins + losses else 1.0
        assert p == pytest.approx(known)
    assert found.points == pytest.approx(100 * (twin.mean() - declared.mean()))


@given(st.integers(0, 50))
def test_the_interval_is_clopper_and_pearson(right: int) -> None:
    """Bounds agree with scipy's exact interval, at both ends too."""
    known = stats.binomtest(right, 50).proportion_ci(0.99, method="exact")
    assert accuracy_interval(right, 50) == pytest.approx((known.low, known.high))


def features(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Thirty unit features of six classes, five each."""
    draws = np.random.default_rng(seed)
    labels = np.repeat(np.arange(6), 5)
    values = draws.standard_normal((30, 8)) + 1.5 * draws.standard_normal((6, 8))[labels]
    return values / np.linalg.norm(values, axis=1, keepdims=True), labels


@pytest.mark.parametrize("seed", range(3))
def test_each_image_is_left_out_of_its_own_mean(seed: int) -> None:
    """Scores are those of means computed anew for each image."""
    directions, labels = features(seed)
    scores, at = nearest_mean_scores(directions, labels)
    for i in range(len(labels)):
        for c in range(6):
            kept = [j for j in range(len(labels)) if labels[j] == c and j != i]
            mean = directions[kept].mean(axis=0)
            assert scores[i, c] == pytest.approx(directions[i] @ mean / np.linalg.norm(mean))
    assert np.array_equal(at, labels)


def test_neighbours_do_not_vote_for_themselves() -> None:
    """An image far from its class is missed though it is its own nearest neighbour."""
    directions, labels = features(0)
    wrong = labels.copy()
    wrong[0] = 5
    assert not knn_hits(directions, wrong, k=3)[0]
    assert knn_hits(directions, labels, k=3).mean() > 0.5


@given(st.floats(0.01, 100), st.floats(-5, 5))
def test_a_loss_at_fitted_temperature_knows_no_scale(factor: float, shift: float) -> None:
    """Sharper or shifted logits are no better: a factor and a shift leave the loss as it is."""
    draws = np.random.default_rng(0)
    at = draws.integers(0, 7, 30)
    values = draws.standard_normal((30, 7)) + 2 * np.eye(7)[at]
    np.testing.assert_allclose(fitted_loss(values * factor + shift, at), fitted_loss(values, at), rtol=1e-6)


def test_contrast_is_high_where_mirrors_are_near_and_others_far() -> None:
    """Orthogonal features with equal mirrors have contrast 1, features that are all the same 0."""
    far = Reading(np.eye(8), None)
    same = Reading(np.ones((8, 8)), None)
    assert score(far, far, None).contrast == pytest.approx(np.ones(8))
    assert score(same, same, None).contrast == pytest.approx(np.zeros(8), abs=1e-12)


def test_targets_take_the_columns_of_the_head() -> None:
    """A head of more classes is read at those of the images: the best among them counts."""
    logits = np.zeros((2, 10))
    logits[0, 7], logits[0, 3], logits[1, 3] = 1, 9, 1
    reading = Reading(np.eye(2), logits)
    found = score(reading, reading, Targets(np.array([0, 1]), np.array([7, 2])))
    assert found.hits is not None
    assert found.hits.tolist() == [True, False]  # of equal logits the first counts


def test_a_t_value_is_scipys() -> None:
    """Against zero, with n - 1 in the spread; no difference at all is 0."""
    values = np.random.default_rng(1).standard_normal(20) + 0.3
    assert paired_t(values) == pytest.approx(stats.ttest_1samp(values, 0).statistic)
    assert paired_t(np.zeros(5)) == 0
