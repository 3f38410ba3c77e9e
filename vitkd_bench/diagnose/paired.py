"""Is one reading of the same images better than another by more than chance?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special


@dataclass(frozen=True, slots=True)
class Comparison:
    """A twin beside the declared reading on `n` images: `wins` are images for the twin, `losses` against it.

    `p` is the one-sided exact probability of so many wins if both were equal (McNemar), `p_against` that of
    so many losses.
    """

    n: int
    wins: int
    losses: int

    @property
    def points(self) -> float:
        """Twin minus declared, in percentage points."""
        return 100 * (self.wins - self.losses) / self.n

    @property
    def p(self) -> float:
        """Probability of at least so many wins."""
        return _tail(self.wins, self.losses)

    @property
    def p_against(self) -> float:
        """Probability of at least so many losses."""
        return _tail(self.losses, self.wins)


def _tail(wins: int, losses: int) -> float:
    return 1.0 if wins == 0 else float(special.bdtrc(wins - 1, wins + losses, 0.5))


def compare(twin: NDArray[np.bool_], declared: NDArray[np.bool_]) -> Comparison:
    """Count the images that only one of two readings gets right."""
    wins, losses = int((twin & ~declared).sum()), int((declared & ~twin).sum())
    return Comparison(len(declared), wins, losses)


def accuracy_interval(hits: int, n: int, level: float = 0.99) -> tuple[float, float]:
    """Give the exact interval of a share (Clopper and Pearson 1934), both bounds in [0, 1]."""
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else float(special.betaincinv(hits, n - hits + 1, tail))
    high = 1.0 if hits == n else float(special.betaincinv(hits + 1, n - hits, 1 - tail))
    return low, high


def nearest_mean_scores(
    directions: NDArray[np.float64], labels: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Compare each image with the mean of each class, itself left out of its own.

    Args:
        directions: (N, D), of length one.
        labels: (N,); a class needs two images to be found.

    Returns:
        Cosines (N, classes that occur), and the column of each image's own class (N,).
    """
    classes, at = np.unique(labels, return_inverse=True)
    sums = np.zeros((len(classes), directions.shape[1]))
    np.add.at(sums, at, directions)
    scores = directions @ _unit(sums).T
    own = _unit(sums[at] - directions)
    scores[np.arange(len(at)), at] = (own * directions).sum(axis=1)
    return np.asarray(scores), at


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.where(length > 0, length, 1))


def knn_hits(directions: NDArray[np.float64], labels: NDArray[np.int64], k: int = 10) -> NDArray[np.bool_]:
    """Say of each image whether most of its `k` nearest others are of its class (ties: more similar ones)."""
    similar = directions @ directions.T
    np.fill_diagonal(similar, -np.inf)
    near = np.argsort(-similar, axis=1, kind="stable")[:, : min(k, len(labels) - 1)]
    votes = np.zeros((len(labels), int(labels.max()) + 1))
    rows = np.arange(len(labels))[:, None]
    np.add.at(votes, (rows, labels[near]), 1 + 1e-3 * np.take_along_axis(similar, near, axis=1))
    return np.asarray(votes.argmax(axis=1) == labels)
