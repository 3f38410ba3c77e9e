import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from vitkd_bench.methods.linear_probe import linear_probe


def clouds(classes: int, seed: int, count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Clouds of points round one centre a class, of features with very different means and deviations."""
    centres = 3 * np.random.default_rng(0).normal(size=(classes, 6))
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), count)
    points = centres[labels] + random.normal(size=(len(labels), 6))
    return points * np.array([1, 10, 0.1, 1, 1, 0]) + np.array([0, 50, 0, 3, 0, 7]), labels


@pytest.mark.parametrize("classes", [2, 5])
def test_it_is_the_optimum_of_its_objective(classes: int) -> None:
    """On raw features the folded probe has the gradient zero that its penalised objective demands."""
    train, val = clouds(classes, 1), clouds(classes, 2)
    probe = linear_probe(train, val, classes, (0.01,))
    deviation = train[0].std(axis=0)
    deviation[deviation == 0] = 1
    weight = torch.tensor(probe.weight * deviation, requires_grad=True)
    standard = torch.tensor((train[0] - train[0].mean(axis=0)) / deviation)
    bias = torch.tensor(probe.bias + probe.weight @ train[0].mean(axis=0), requires_grad=True)
    logits = standard @ weight.T + bias
    # of two classes the one vector w of scikit-learn stands here as -w / 2 and w / 2: half its square
    penalty = 0.01 / 2 * weight.square().sum() * (2 if classes == 2 else 1)
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(train[1])) + penalty
    gradients = torch.autograd.grad(loss, [weight, bias])
    assert all(gradient.abs().max() < 1e-3 for gradient in gradients)
    guess = (val[0] @ probe.weight.T + probe.bias).argmax(axis=1)
    assert (guess == val[1]).mean() > 0.9


def test_the_penalty_is_the_best_on_val() -> None:
    """Of several penalties the one with the best likelihood on val is kept, recomputed by scikit-learn."""
    random = np.random.default_rng(3)
    train = random.normal(size=(60, 40)), random.integers(0, 3, 60)
    val = random.normal(size=(90, 40)), random.integers(0, 3, 90)
    mean, deviation = train[0].mean(axis=0), train[0].std(axis=0)

    def score(strength: float) -> float:
        model = LogisticRegression(C=1 / (strength * 60), max_iter=2000, tol=1e-6)
        model.fit((train[0] - mean) / deviation, train[1])
        logs = model.predict_log_proba((val[0] - mean) / deviation)
        return float(logs[np.arange(90), val[1]].mean())

    strengths = (1e-4, 1e-2, 1.0, 10.0)
    assert linear_probe(train, val, 3, strengths).strength == max(strengths, key=score)


def test_a_class_without_samples_is_an_error() -> None:
    """A head that never saw a class would be a fresh one for it."""
    train, val = clouds(3, 1), clouds(4, 2)
    with pytest.raises(ValueError, match="class 3 has no training sample"):
        linear_probe(train, val, 4, (0.1,))
