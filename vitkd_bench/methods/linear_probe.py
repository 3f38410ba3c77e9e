"""A linear probe: logistic regression on a frozen teacher's features (Alain and Bengio, arXiv:1610.01644)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from vitkd_bench.contracts import Method
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings

MOST_ROUNDS = 2000


@dataclass(frozen=True, slots=True)
class Probe:
    """A linear head: `weight` (K, D), `bias` (K,), and the `strength` 1/C of its penalty, chosen on val."""

    weight: np.ndarray
    bias: np.ndarray
    strength: float


def linear_probe(
    train: tuple[np.ndarray, np.ndarray],
    val: tuple[np.ndarray, np.ndarray],
    classes: int,
    strengths: tuple[float, ...],
) -> Probe:
    """Fit logistic regression to features (N, D) and labels (N,) in [0, `classes`).

    Features are standardised by the training set, which is then folded into the weights, so that the probe
    takes features as they are. Of the penalties (half the squared norm of the weights times `strength`,
    against the mean loss over the training set) the one with the best log-likelihood on `val` is kept.

    Raises:
        ValueError: a class has no training sample.
    """
    features, labels = np.asarray(train[0], np.float64), train[1]
    missing = sorted(set(range(classes)) - set(labels.tolist()))
    if missing:
        raise ValueError(f"class {missing[0]} has no training sample to fit a probe to")
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    standard, held = (features - mean) / deviation, (np.asarray(val[0], np.float64) - mean) / deviation
    found = [_fit(standard, labels, strength) for strength in strengths]
    losses = [_nll(held, val[1], weight, bias) for weight, bias in found]
    best = int(np.argmin(losses))
    weight = found[best][0] / deviation
    return Probe(weight, found[best][1] - weight @ mean, strengths[best])


def _fit(features: np.ndarray, labels: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1 / (strength * len(features)), max_iter=MOST_ROUNDS, tol=1e-6)
    model.fit(features, labels)
    if len(model.classes_) > 2:
        return model.coef_, model.intercept_
    # of two classes scikit-learn keeps the difference alone
    return np.concatenate([-model.coef_, model.coef_]) / 2, np.concatenate(
        [-model.intercept_, model.intercept_]
    ) / 2


def _nll(features: np.ndarray, labels: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> float:
    logits = features @ weight.T + bias
    top = logits.max(axis=1, keepdims=True)
    normaliser = top[:, 0] + np.log(np.exp(logits - top).sum(axis=1))
    return float((normaliser - logits[np.arange(len(labels)), labels]).mean())


@METHODS.register(
    "linear_probe",
    title="Linear probe on a frozen teacher",
    kind="probe",
    paper="arXiv:1610.01644",
    budget="the penalty, on val, among `strengths`",
)
class LinearProbe(Method):
    """Gives a teacher without a head for these classes its logits; fitted once, before what reads them."""

    class Config(Settings):
        strengths: tuple[float, ...] = Field(
            default=(1e-4, 1e-3, 1e-2, 1e-1),
            min_length=1,
            description="penalties tried: half the squared norm of the weights times this",
        )
