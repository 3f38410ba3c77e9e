from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.methods.attention_calls import PACKED, Pair, calls_of, drawn, on_tensors
from tests.methods.conftest import MakeCell, MakeMethod
from tests.methods.laws import LossLaws, laws_of
from vitkd_bench.contracts import Batch
from vitkd_bench.methods._qkv import QKV
from vitkd_bench.methods.attn_distill import attn_distill_loss
from vitkd_bench.methods.qkv_distill import qkv_distill_loss
from vitkd_bench.spec import ResolvedDataset

STUDENT, TEACHER = drawn(*PACKED), drawn(*PACKED, seed=1)
ALL: tuple[QKV, ...] = ("q", "k", "v")

test_the_laws_hold = laws_of(
    {
        "q": LossLaws(on_tensors(qkv_distill_loss), STUDENT, TEACHER),
        "q, k, v": LossLaws(on_tensors(partial(qkv_distill_loss, parts=ALL)), STUDENT, TEACHER),
        "mean over blocks": LossLaws(on_tensors(partial(qkv_distill_loss, over="mean")), STUDENT, TEACHER),
    }
)


def test_it_is_the_mean_of_squares_of_each_part() -> None:
    """Written out element by element: a mean within a block and part, a sum over parts and blocks."""
    for parts in (("q",), ("k", "v"), ALL):
        expected = 0.0
        for block in range(PACKED[1]):
            for part in parts:
                ours, theirs = (side[:, block, ALL.index(part)].flatten() for side in (STUDENT, TEACHER))
                pairs = zip(ours.tolist(), theirs.tolist(), strict=True)
                expected += math.fsum((a - b) ** 2 for a, b in pairs) / ours.numel()
        found = qkv_distill_loss(calls_of(STUDENT), calls_of(TEACHER), parts)
        assert found.item() == pytest.approx(expected)


@given(st.integers(0, 99))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_it_asks_for_more_than_equal_maps(seed: int) -> None:
    """Queries and keys turned alike give equal maps and are apart: the loss is not invariant to rotation."""
    turn = torch.linalg.qr(drawn(PACKED[-1], PACKED[-1], seed=seed)).Q
    turned = STUDENT @ turn
    maps = attn_distill_loss(calls_of(turned), calls_of(STUDENT), "kl")
    assert maps.item() == pytest.approx(0, abs=1e-9)
    apart = qkv_distill_loss(calls_of(turned), calls_of(STUDENT), ALL).item()
    assert (apart > 1e-3) == (not torch.allclose(turn, torch.eye(PACKED[-1], dtype=torch.float64)))


def test_parts_of_another_shape_are_refused() -> None:
    """Other widths are named, and never broadcast; so are other numbers of blocks."""
    other = drawn(2, 2, 3, 2, 4, 1)
    with pytest.raises(
        ValueError, match=r"q differs in shape: student \(2, 2, 4, 3\), teacher \(2, 2, 4, 1\)"
    ):
        qkv_distill_loss(calls_of(STUDENT), calls_of(other))
    with pytest.raises(ValueError, match="as many blocks"):
        qkv_distill_loss(calls_of(STUDENT), calls_of(TEACHER)[:1])


def test_only_the_named_parts_and_heads_are_pulled(
    make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset, batch: Batch
) -> None:
    """The keys of one head of the last block get the gradient; its other rows get none."""
    method = make_method("qkv_distill", make_cell(), parts=["k"], heads=[1], layers="last:1", weight=2.0)
    pair = Pair(method, digits, batch)
    parts = pair.parts()
    parts["qkv_distill"].backward()
    gradient = pair.gradient(3)
    touched = [[bool(gradient[i, head].abs().max() > 0) for head in range(3)] for i in range(3)]
    assert touched == [[False] * 3, [False, True, False], [False] * 3]


def test_the_weight_and_schedule_multiply(
    make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset, batch: Batch
) -> None:
    """Weight 3 is three times weight 1; over the half of training that the share leaves out it is nothing."""
    found = []
    for weight, share in ((1.0, 1.0), (3.0, 1.0), (3.0, 0.5)):
        method = make_method("qkv_distill", make_cell(), weight=weight, share=share)
        late = Batch(batch.pixels, batch.labels, batch.ids, progress=0.75)
        found.append(Pair(method, digits, late).parts()["qkv_distill"].item())
    assert found[1] == pytest.approx(3 * found[0])
    assert found[2] == 0
