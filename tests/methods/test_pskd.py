import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from torch import Tensor, nn

from tests.methods.conftest import MakeCell, MakeMethod
from tests.methods.laws import G1_LABELS, G1_STUDENT, G1_TEACHER, LossLaws, laws_of
from vitkd_bench.contracts import Batch, Features, Method
from vitkd_bench.methods.none import none_loss
from vitkd_bench.methods.pskd import pskd_loss


def from_logits(student: Tensor, previous: Tensor) -> Tensor:
    """Give the earlier output as logits."""
    return pskd_loss(student, F.softmax(previous, dim=1))


def entropy(logits: Tensor) -> float:
    """Average the entropy of rows: what a cross-entropy with oneself is."""
    p = softmax(logits.numpy(), axis=1)
    return float(-np.sum(p * np.log(p)) / len(p))


test_the_laws_hold = laws_of(
    {
        "plain": LossLaws(from_logits, G1_STUDENT, G1_TEACHER, floor=entropy),
        "one class": LossLaws(from_logits, G1_STUDENT[:, :1], G1_TEACHER[:, :1]),
    }
)


def drawn(*shape: int, seed: int) -> Tensor:
    """Draw logits."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def plain_batch(batch: Batch) -> Batch:
    """The batch without label smoothing, at the first epoch."""
    return dataclasses.replace(batch, label_smoothing=0.0, epoch=0)


@pytest.fixture
def method(make_cell: MakeCell, make_method: MakeMethod) -> Method:
    """The method under a recipe of 300 epochs."""
    cell = make_cell(None)
    assert cell.recipe is not None
    cell = dataclasses.replace(cell, recipe=cell.recipe.model_copy(update={"epochs": 300}))
    return make_method("pskd", cell)


def at(batch: Batch, epoch: int) -> Batch:
    """The batch at another epoch."""
    return dataclasses.replace(batch, epoch=epoch)


def previous(method: Method) -> Tensor:
    """The memory of a method."""
    assert isinstance(method, nn.Module)
    return method.get_buffer("previous")


def test_it_has_its_golden_value() -> None:
    """On G1 in epoch 149 of 300: a share of .4 of the teacher's probabilities as last output."""
    total = 0.6 * none_loss(G1_STUDENT, G1_LABELS) + 0.4 * from_logits(G1_STUDENT, G1_TEACHER)
    assert total.item() == pytest.approx(0.9995124588, abs=1e-9)


@given(st.floats(0, 1), st.integers(1, 5), st.integers(1, 8), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_parts_sum_to_the_published_target(share: float, batch: int, classes: int, seed: int) -> None:
    """(1 - a) cross-entropy + a of it is the cross-entropy with the mixture of one-hot and last output."""
    s, last = drawn(batch, classes, seed=seed).double(), drawn(batch, classes, seed=seed + 1).double()
    labels = torch.arange(batch) % classes
    mixture = share * softmax(last.numpy(), axis=1)
    mixture[np.arange(batch), labels.numpy()] += 1 - share
    expected = -np.sum(mixture * log_softmax(s.numpy(), axis=1)) / batch
    total = (1 - share) * none_loss(s, labels) + share * from_logits(s, last)
    assert total.item() == pytest.approx(expected, abs=1e-9)


def test_the_first_epoch_learns_labels_alone(method: Method, plain_batch: Batch) -> None:
    """What was never seen has its label as last output, so the parts sum to plain cross-entropy."""
    logits = drawn(48, 10, seed=1)
    parts = method.loss(Features(logits=logits), None, plain_batch)
    assert sum(part.item() for part in parts.values()) == pytest.approx(
        none_loss(logits, plain_batch.labels).item(), rel=1e-6
    )


def test_each_sample_meets_its_own_last_output(method: Method, plain_batch: Batch) -> None:
    """In another order and epoch the target of a sample is what the student said of it before."""
    first, second = drawn(48, 10, seed=1), drawn(48, 10, seed=2)
    method.loss(Features(logits=first), None, plain_batch)
    order = torch.randperm(48, generator=torch.Generator().manual_seed(3))
    shuffled = dataclasses.replace(
        at(plain_batch, 149), ids=plain_batch.ids[order], labels=plain_batch.labels[order]
    )
    parts = method.loss(Features(logits=second), None, shuffled)
    expected = 0.4 * pskd_loss(second, F.softmax(first, dim=1)[order])
    torch.testing.assert_close(parts["pskd"], expected)
    torch.testing.assert_close(parts["labels"], 0.6 * none_loss(second, shuffled.labels))
    torch.testing.assert_close(previous(method)[shuffled.ids], F.softmax(second, dim=1))


def test_the_memory_is_float32_detached_and_as_long_as_the_training_set(
    method: Method, plain_batch: Batch
) -> None:
    """One row an image; what a half-precision student said is kept in single precision, without its graph."""
    assert previous(method).shape == (plain_batch.train_size, 10)
    logits = drawn(48, 10, seed=1).bfloat16().requires_grad_()
    method.loss(Features(logits=logits), None, plain_batch)
    kept = previous(method)
    assert kept.dtype == torch.float32
    assert not kept.requires_grad
    assert kept[plain_batch.ids].sum(dim=1).numpy() == pytest.approx(1, abs=1e-6)
    seen = torch.zeros(len(kept), dtype=torch.bool)
    seen[plain_batch.ids] = True
    assert kept[~seen].abs().sum() == 0


def test_a_resumed_run_goes_on_with_its_memory(
    method: Method, plain_batch: Batch, make_method: MakeMethod
) -> None:
    """The memory stands in the state dict: a fresh method that loads it gives the same loss."""
    method.loss(Features(logits=drawn(48, 10, seed=1)), None, plain_batch)
    resumed = make_method("pskd", method.cell)
    assert isinstance(method, nn.Module)
    assert isinstance(resumed, nn.Module)
    resumed.load_state_dict(method.state_dict())
    later, student = at(plain_batch, 7), Features(logits=drawn(48, 10, seed=2))
    goes_on = [each.loss(student, None, later)["pskd"].item() for each in (method, resumed)]
    assert goes_on[0] == goes_on[1]


@pytest.mark.parametrize(
    ("schedule", "shares"), [("linear", [0.8 / 300, 0.4, 0.8]), ("constant", [0.8, 0.8, 0.8])]
)
def test_the_share_follows_its_schedule(
    schedule: str, shares: list[float], method: Method, plain_batch: Batch, make_method: MakeMethod
) -> None:
    """In epochs 0, 149 and 299 of 300 the labels keep what the last output does not have."""
    own = make_method("pskd", method.cell, schedule=schedule)
    student = Features(logits=drawn(48, 10, seed=1))
    labels = none_loss(drawn(48, 10, seed=1), plain_batch.labels).item()
    kept = [own.loss(student, None, at(plain_batch, e))["labels"].item() / labels for e in (0, 149, 299)]
    assert kept == pytest.approx([1 - share for share in shares], rel=1e-5)


def test_without_a_recipe_the_linear_schedule_says_so(
    plain_batch: Batch, make_cell: MakeCell, make_method: MakeMethod
) -> None:
    """There are no epochs to count: an error, no guess."""
    bare = make_method("pskd", dataclasses.replace(make_cell(None), recipe=None))
    with pytest.raises(TypeError, match="counts the recipe's epochs"):
        bare.loss(Features(logits=drawn(48, 10, seed=1)), None, plain_batch)
