from collections.abc import Callable

import pytest
import torch.nn.functional as F
from torch import Tensor

from tests.methods.laws import G1_LABELS, G1_STUDENT, LossLaws, laws_of
from vitkd_bench.methods.none import none_loss


def labelled(smoothing: float) -> Callable[[Tensor], Tensor]:
    """Bind the first labels of G1."""
    return lambda logits: none_loss(logits, G1_LABELS[: len(logits)] % logits.shape[1], smoothing)


test_the_laws_hold = laws_of(
    {
        "plain": LossLaws(labelled(0.0), G1_STUDENT),
        "smoothed": LossLaws(labelled(0.1), G1_STUDENT),
        "one class": LossLaws(labelled(0.1), G1_STUDENT[:, :1]),
    }
)


def test_label_loss_has_its_golden_value() -> None:
    """Cross-entropy of G1, and with smoothing the mixture that its definition says."""
    assert none_loss(G1_STUDENT, G1_LABELS).item() == pytest.approx(0.8986802400, abs=1e-10)
    uniform = -F.log_softmax(G1_STUDENT, dim=1).mean()
    mixture = 0.9 * 0.8986802400 + 0.1 * uniform.item()
    assert none_loss(G1_STUDENT, G1_LABELS, 0.1).item() == pytest.approx(mixture, abs=1e-10)
