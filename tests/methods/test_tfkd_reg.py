from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from torch import Tensor

from tests.methods.conftest import MakeCell, MakeMethod
from tests.methods.laws import G1_LABELS, G1_STUDENT, LossLaws, laws_of
from vitkd_bench.contracts import Batch, Features
from vitkd_bench.methods.label_smoothing import label_smoothing_loss
from vitkd_bench.methods.none import none_loss
from vitkd_bench.methods.tfkd_reg import tfkd_reg_loss, virtual_teacher
from vitkd_bench.registry import METHODS


def labelled(**settings_: Any) -> Callable[[Tensor], Tensor]:
    """Bind settings and the first labels of G1."""
    return lambda s: tfkd_reg_loss(s, G1_LABELS[: len(s)] % s.shape[1], **settings_)


test_the_laws_hold = laws_of(
    {
        "released": LossLaws(labelled(), G1_STUDENT),
        "logarithms": LossLaws(labelled(softening="logarithms", temperature=2.0), G1_STUDENT),
        "one class": LossLaws(labelled(), G1_STUDENT[:, :1]),
    }
)


def drawn(*shape: int, seed: int) -> Tensor:
    """Draw logits in float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_it_has_its_golden_values() -> None:
    """On G1 at temperature 20; the released mean over samples and classes times 100 is 25 times ours."""
    value = labelled(temperature=20.0)(G1_STUDENT)
    assert value.item() == pytest.approx(0.1545026719, abs=1e-9)
    assert value.item() / 4 == pytest.approx(0.0386256680, abs=1e-9)
    total = 0.9 * none_loss(G1_STUDENT, G1_LABELS) + 0.1 * 100 * value / 4
    assert total.item() == pytest.approx(1.1950688959, abs=1e-9)


@pytest.mark.parametrize(
    ("classes", "temperature", "softening", "own"),
    [
        (4, 20, "probabilities", 0.259364),
        (100, 20, "probabilities", 0.010502),
        (100, 40, "probabilities", 0.010248),
        (100, 20, "logarithms", 0.01574),
    ],
)
def test_the_released_target_is_next_to_uniform(
    classes: int, temperature: float, softening: Any, own: float
) -> None:
    """The label's share of the softened virtual teacher at confidence .99; the rest is shared alike."""
    target = virtual_teacher(torch.tensor([0]), classes, 0.99, temperature, softening).exp()[0]
    assert target[0].item() == pytest.approx(own, abs=5e-6)
    assert target[1:].numpy() == pytest.approx((1 - target[0].item()) / (classes - 1), abs=1e-12)


@pytest.mark.parametrize("softening", ["probabilities", "logarithms"])
@given(st.floats(0.05, 0.99), st.floats(0.5, 40), st.integers(2, 8), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_it_is_its_definition(
    softening: Any, confidence: float, temperature: float, classes: int, seed: int
) -> None:
    """The KL from the target written out, with the student at temperature 1; zero for that very student."""
    logits, labels = drawn(5, classes, seed=seed), torch.arange(5) % classes
    given_ = np.full((5, classes), (1 - confidence) / (classes - 1))
    given_[np.arange(5), labels.numpy()] = confidence
    p = softmax((given_ if softening == "probabilities" else np.log(given_)) / temperature, axis=1)
    expected = np.sum(p * (np.log(p) - log_softmax(logits.numpy(), axis=1))) / 5
    own: dict[str, Any] = {"confidence": confidence, "temperature": temperature, "softening": softening}
    assert tfkd_reg_loss(logits, labels, **own).item() == pytest.approx(expected, abs=1e-9)
    assert tfkd_reg_loss(torch.tensor(p).log(), labels, **own).item() == pytest.approx(0, abs=1e-9)


def test_the_released_form_is_label_smoothing_but_for_a_twentieth() -> None:
    """Its gradient beside a tenth of the labels is that of smoothing by alpha, within .005 of a row's sum."""
    logits = drawn(16, 100, seed=4).requires_grad_()
    labels = torch.arange(16)
    total = 0.9 * none_loss(logits, labels) + 0.1 * tfkd_reg_loss(logits, labels)
    smoothed = label_smoothing_loss(logits, labels, smoothing=0.1)
    (ours,) = torch.autograd.grad(total, logits)
    (theirs,) = torch.autograd.grad(smoothed, logits)
    assert (16 * (ours - theirs)).abs().max() < 1e-4 < (16 * theirs).abs().max()


def test_settings_reach_the_loss(batch: Batch, make_cell: MakeCell, make_method: MakeMethod) -> None:
    """Shares are alpha and 1 - alpha; the target is the one that the settings name."""
    student = Features(logits=drawn(48, 10, seed=1))
    own: dict[str, Any] = {"confidence": 0.9, "temperature": 2.0, "softening": "logarithms"}
    parts = make_method("tfkd_reg", make_cell(None), alpha=0.25, **own).loss(student, None, batch)
    none = make_method("none", make_cell(None)).loss(student, None, batch)
    assert student.logits is not None
    torch.testing.assert_close(parts["labels"], 0.75 * none["labels"])
    torch.testing.assert_close(parts["tfkd_reg"], 0.25 * tfkd_reg_loss(student.logits, batch.labels, **own))
    assert not METHODS.get("tfkd_reg").reads_teacher
