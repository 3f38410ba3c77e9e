"""Leaving tokens out of a call is leaving them out of its map, rows divided by their sum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vitkd_bench.attention import (
    AttentionCall,
    attention_distillation,
    copied_attention,
    copying,
    select_tokens,
)

MakeCall = Callable[..., AttentionCall]
BIASES: list[tuple[int, ...] | None] = [None, (7, 7), (3, 1, 1), (1, 3, 7, 7), (2, 1, 1, 7), (7, 1), (7,), ()]
REGISTERS_OUT = (0, 5, 6)  # of a class token, four registers and two patches


def renormalised(call: AttentionCall, kept: list[int]) -> Tensor:
    """Drop rows and columns of the whole map, and divide each row by its sum."""
    maps = call.maps()[:, :, kept][..., kept]
    return maps / maps.sum(dim=-1, keepdim=True)


@settings(deadline=None)  # the first call of a process imports kernels
@given(
    st.sets(st.integers(0, 6), min_size=1).map(sorted),
    st.sampled_from(BIASES),
    st.integers(0, 1000),
)
def test_the_map_is_the_teachers_without_the_tokens(
    make_call: MakeCall, kept: list[int], bias: tuple[int, ...] | None, seed: int
) -> None:
    """Whatever is kept and whatever form the bias has, the map is the renormalised one."""
    call = make_call(tokens=7, bias=bias, seed=seed, spread=2.0)
    chosen = select_tokens(call, kept)
    torch.testing.assert_close(chosen.maps(), renormalised(call, kept), atol=1e-12, rtol=0)
    assert torch.equal(chosen.v, call.v[:, :, kept])
    assert chosen.scale == call.scale


def test_all_tokens_are_the_call_itself(make_call: MakeCall) -> None:
    """A student with the teacher's tokens costs nothing: nothing is copied."""
    call = make_call(tokens=7, bias=(7, 7))
    assert select_tokens(call, range(7)) is call


def test_one_stretch_of_tokens_shares_memory(make_call: MakeCall) -> None:
    """Leaving out the first tokens is a view, not a copy of the teacher's queries and keys."""
    call = make_call(tokens=7)
    chosen = select_tokens(call, range(1, 7))
    assert chosen.q.untyped_storage().data_ptr() == call.q.untyped_storage().data_ptr()


@pytest.mark.parametrize("keys", [7, 70])
@pytest.mark.parametrize("bias", [False, True])
def test_copy_is_exact_in_all_forms(
    make_call: MakeCall, monkeypatch: pytest.MonkeyPatch, keys: int, *, bias: bool
) -> None:
    """Copied attention of the cut call is the renormalised map times the student's values."""
    call = make_call(tokens=keys, bias=(1, 3, keys, keys) if bias else None)
    kept = [0, *range(5, keys)]
    values = make_call(tokens=len(kept), width=6, seed=3).v
    expected = renormalised(call, kept) @ values
    for tiled_from, not_kept_from in ((1, 1), (1, 1000), (1000, 1000)):
        monkeypatch.setattr(copying, "TILED_FROM", tiled_from)
        monkeypatch.setattr(copying, "NOT_KEPT_FROM", not_kept_from)
        found = copied_attention(select_tokens(call, kept), values)
        torch.testing.assert_close(found, expected, atol=1e-8, rtol=0)


@pytest.mark.parametrize("loss", ["ce", "kl"])
@pytest.mark.parametrize("biased", ["none", "teacher", "both"])
def test_distillation_is_exact_in_both_forms(
    make_call: MakeCall, loss: Literal["ce", "kl"], biased: str
) -> None:
    """Loss and gradients against the cut call are those against the renormalised map, written out."""
    shape = (1, 3, 7, 7)
    teacher = make_call(tokens=7, bias=None if biased == "none" else shape, seed=1)
    student = make_call(tokens=3, bias=(1, 3, 3, 3) if biased == "both" else None)
    target = renormalised(teacher, list(REGISTERS_OUT))
    found = {}
    for form in ("plain", "fused", "by hand"):
        leaves = [t.clone().requires_grad_() for t in (student.q, student.k, student.bias) if t is not None]
        given_ = replace(student, q=leaves[0], k=leaves[1], bias=leaves[2] if len(leaves) == 3 else None)
        if form == "by hand":
            terms = -target * given_.maps().log()
            entropy = -(target * target.log()).sum(dim=-1).mean()
            value = terms.sum(dim=-1).mean() - (entropy if loss == "kl" else 0)
        else:
            options: dict[str, Any] = {"loss": loss, "form": form}
            value = attention_distillation(given_, select_tokens(teacher, REGISTERS_OUT), **options)
        found[form] = [value.detach(), *torch.autograd.grad(value, leaves)]
    for form in ("plain", "fused"):
        for actual, expected in zip(found[form], found["by hand"], strict=True):
            torch.testing.assert_close(actual, expected, atol=1e-8, rtol=0)


def test_gradients_reach_what_is_kept_alone(make_call: MakeCall) -> None:
    """What is left out plays no part: its gradient is exactly zero."""
    call = make_call(tokens=7)
    query = call.q.clone().requires_grad_()
    select_tokens(replace(call, q=query), REGISTERS_OUT).maps()[..., 0].square().sum().backward()
    assert query.grad is not None
    reached = query.grad.abs().sum(dim=(0, 1, 3)) > 0
    assert reached.nonzero().flatten().tolist() == list(REGISTERS_OUT)


def test_a_row_left_with_masked_keys_stays_blank(make_call: MakeCall) -> None:
    """A query that attended only to what is left out attends to nothing, and nothing becomes NaN."""
    call = make_call(tokens=7)
    mask = torch.zeros(7, 7, dtype=torch.float64)
    mask[5, [0, 5, 6]] = float("-inf")
    maps = select_tokens(replace(call, bias=mask), REGISTERS_OUT).maps()
    assert torch.equal(maps[:, :, 1], torch.zeros_like(maps[:, :, 1]))
    torch.testing.assert_close(maps[:, :, [0, 2]].sum(dim=-1), torch.ones(2, 3, 2, dtype=torch.float64))


@pytest.mark.parametrize("tokens", [(), (1, 0), (0, 0), (0, 7), (-1, 2)])
def test_tokens_that_are_no_choice_are_refused(make_call: MakeCall, tokens: tuple[int, ...]) -> None:
    """None, twice, out of order or beyond the call."""
    with pytest.raises(ValueError, match="ascending positions from 0 to 6"):
        select_tokens(make_call(tokens=7), tokens)


def test_queries_that_are_not_the_keys_are_refused(make_call: MakeCall) -> None:
    """A pooling head's queries are no tokens of the network."""
    call = make_call(tokens=7)
    with pytest.raises(ValueError, match="1 queries, 7 keys"):
        select_tokens(replace(call, q=call.q[:, :, :1]), (0,))
