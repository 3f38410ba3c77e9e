"""The six distances of attention maps, against sums written out, and what holds of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vitkd_bench.attention import AttentionCall, Loss, attention_distillation

LOSSES: tuple[Loss, ...] = get_args(Loss)
FORMS = ("fused", "plain")
# the G4 arrays (two heads of 4 x 4), taken as logits
GOLDEN: dict[Loss, float] = {
    "ce": 1.5790788685,
    "kl": 0.3638832094,
    "jsd": 0.0876271418,
    "l1": 0.7283243208,
    "mse": 0.1728009518,
    "mse_logits": 4.0536360343,
}


def call_of(logits: Tensor) -> AttentionCall:
    """Make the call that has these logits (B, H, N, N): they stand as queries before keys of one each."""
    keys = torch.eye(logits.shape[-1], dtype=logits.dtype).expand_as(logits)
    return AttentionCall(logits, keys, keys, None, 1.0)


def g4(function: Callable[[float], float], i: float, j: float) -> AttentionCall:
    """Make a call of function(i row + j column + head)."""
    rows = [[[function(i * y + j * x + c) for x in range(4)] for y in range(4)] for c in range(2)]
    return call_of(torch.tensor([rows], dtype=torch.float64))


def row_of(logits: Sequence[float]) -> AttentionCall:
    """Make a call of a single row."""
    row = torch.tensor(logits, dtype=torch.float64)
    keys = torch.eye(len(row), dtype=torch.float64)[None, None]
    return AttentionCall(row.view(1, 1, 1, -1), keys, keys, None, 1.0)


def written_out(loss: Loss, ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Compute one row's distance with the numbers of Python."""
    p, t = (softmax(logits) for logits in (ours, theirs))
    m = [(a + b) / 2 for a, b in zip(p, t, strict=True)]
    sums = {
        "ce": -math.fsum(b * math.log(a) for a, b in zip(p, t, strict=True)),
        "kl": math.fsum(b * math.log(b / a) for a, b in zip(p, t, strict=True)),
        "jsd": math.fsum(x * math.log(x / c) / 2 for side in (p, t) for x, c in zip(side, m, strict=True)),
        "l1": math.fsum(abs(a - b) for a, b in zip(p, t, strict=True)),
        "mse": math.fsum((a - b) ** 2 for a, b in zip(p, t, strict=True)),
        "mse_logits": math.fsum((a - b) ** 2 for a, b in zip(ours, theirs, strict=True)),
    }
    return sums[loss]


def softmax(logits: Sequence[float]) -> list[float]:
    """Turn logits into probabilities."""
    powers = [math.exp(x - max(logits)) for x in logits]
    return [x / math.fsum(powers) for x in powers]


def distance(ours: AttentionCall, theirs: AttentionCall, loss: Loss, form: str = "fused") -> float:
    """Compute a distance as a number."""
    return attention_distillation(ours, theirs, loss=loss, form=form).item()  # type: ignore[arg-type]


def laws(function: Callable[..., None]) -> Callable[..., None]:
    """Try a law on some examples, the same ones in every run."""
    return settings(max_examples=40, deadline=None, derandomize=True)(function)


ROWS = st.integers(1, 6).flatmap(
    lambda n: st.tuples(*(st.lists(st.floats(-8, 8), min_size=n, max_size=n) for _ in range(2)))
)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("loss", LOSSES)
def test_each_has_its_golden_value(loss: Loss, form: str) -> None:
    """The G4 arrays as logits; their mean squared difference over all elements is 1.0134090086."""
    student, teacher = g4(math.sin, 1, 2), g4(math.cos, 2, -1)
    assert distance(student, teacher, loss, form) == pytest.approx(GOLDEN[loss], abs=1e-9)
    averaged = attention_distillation(student, teacher, loss="mse_logits", over_keys="mean")
    assert averaged.item() == pytest.approx(1.0134090086, abs=1e-9)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("loss", LOSSES)
@laws
@given(rows=ROWS)
def test_each_is_the_sum_written_out(loss: Loss, form: str, rows: tuple[list[float], list[float]]) -> None:
    """A single row is what its definition says, in plain numbers."""
    assert distance(row_of(rows[0]), row_of(rows[1]), loss, form) == pytest.approx(
        written_out(loss, *rows), abs=1e-9
    )


@laws
@given(rows=ROWS)
def test_some_are_symmetric_and_bounded(rows: tuple[list[float], list[float]]) -> None:
    """JSD, L1 and both squares do not ask who is the teacher; those of maps have bounds; CE and KL do ask."""
    ours, theirs = row_of(rows[0]), row_of(rows[1])
    for loss in LOSSES[2:]:
        assert distance(ours, theirs, loss) == pytest.approx(distance(theirs, ours, loss), abs=1e-9)
    assert -1e-12 <= distance(ours, theirs, "jsd") <= math.log(2) + 1e-9
    assert distance(ours, theirs, "l1") <= 2 + 1e-9
    assert distance(ours, theirs, "mse") <= 2 + 1e-9
    pinsker = math.sqrt(2 * max(0.0, distance(ours, theirs, "kl")))
    assert distance(ours, theirs, "l1") <= pinsker + 1e-6


@laws
@given(rows=ROWS, shift=st.floats(-5, 5))
def test_maps_hide_a_constant_and_logits_do_not(rows: tuple[list[float], list[float]], shift: float) -> None:
    """A constant added to a row of logits changes no distance of maps, and changes that of logits."""
    ours, theirs, moved = row_of(rows[0]), row_of(rows[1]), row_of([x + shift for x in rows[0]])
    for loss in LOSSES:
        if loss != "mse_logits":
            assert distance(moved, theirs, loss) == pytest.approx(distance(ours, theirs, loss), abs=1e-9)
    same = distance(row_of(rows[0]), moved, "mse_logits")
    assert same == pytest.approx(len(rows[0]) * shift**2, abs=1e-8)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("loss", LOSSES)
def test_equal_sides_are_at_the_floor(loss: Loss, form: str) -> None:
    """All are 0 for equal maps but the cross-entropy, which is the entropy; the gradient is 0."""
    student = g4(math.sin, 1, 2)
    leaf = student.q.clone().requires_grad_()
    value = attention_distillation(replace(student, q=leaf), student, loss=loss, form=form)  # type: ignore[arg-type]
    maps = student.maps()
    floor = -(maps * maps.log()).sum(dim=-1).mean().item() if loss == "ce" else 0.0
    assert value.item() == pytest.approx(floor, abs=1e-12)
    assert torch.autograd.grad(value, leaf)[0].abs().max() < 1e-12


@pytest.mark.parametrize("form", FORMS)
def test_maps_on_different_keys_are_as_far_as_can_be(form: str) -> None:
    """One key each, and not the same: JSD is log 2, L1 and the square 2; a mask on one side does the same."""
    here, there = row_of([1e4, 0.0]), row_of([0.0, 1e4])
    for loss, most in (("jsd", math.log(2)), ("l1", 2.0), ("mse", 2.0)):
        assert distance(here, there, loss, form) == pytest.approx(most)  # type: ignore[arg-type]
    masks = [torch.tensor(m, dtype=torch.float64) for m in ([0, -math.inf], [-math.inf, 0])]
    ours, theirs = (replace(row_of([0.3, 0.2]), bias=mask) for mask in masks)
    for loss, most in (("jsd", math.log(2)), ("l1", 2.0), ("mse", 2.0), ("mse_logits", 0.0)):
        leaf = ours.q.clone().requires_grad_()
        value = attention_distillation(replace(ours, q=leaf), theirs, loss=loss, form=form)  # type: ignore[arg-type]
        assert value.item() == pytest.approx(most)
        assert torch.autograd.grad(value, leaf)[0].isfinite().all()
    assert distance(ours, theirs, "kl", form) == math.inf


@pytest.mark.parametrize("loss", ["kl", "jsd"])
def test_near_maps_keep_their_digits(loss: Loss) -> None:
    """In float32 KL and JSD of maps that differ by a percent are right to a percent, and not lost in it."""
    logits = [0.1 * i for i in range(6)]
    near = [x + 1e-2 * (-1) ** i for i, x in enumerate(logits)]
    ours, theirs = (replace(c, q=c.q.float(), k=c.k.float()) for c in (row_of(logits), row_of(near)))
    assert distance(ours, theirs, loss) == pytest.approx(written_out(loss, logits, near), rel=0.01)
