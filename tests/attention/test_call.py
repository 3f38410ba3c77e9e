from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from vitkd_bench.attention import AttentionCall

MakeCall = Callable[..., AttentionCall]


@pytest.mark.parametrize("bias", [None, (5, 5), (3, 5, 5), (1, 3, 5, 5), (2, 1, 1, 5)])
def test_maps_are_what_sdpa_applies(make_call: MakeCall, bias: tuple[int, ...] | None) -> None:
    """The maps are what scaled_dot_product_attention does to the unit vectors."""
    call = make_call(bias=bias)
    unit = torch.eye(5, dtype=torch.float64).expand(2, 3, 5, 5)
    expected = F.scaled_dot_product_attention(call.q, call.k, unit, call.bias, scale=call.scale)
    torch.testing.assert_close(call.maps(), expected, atol=1e-12, rtol=0)


def test_scale_counts(make_call: MakeCall) -> None:
    """Logits grow with the scale of the call, not with the width of its heads."""
    call = make_call()
    assert torch.equal(2 * call.logits(), replace(call, scale=2 * call.scale).logits())


def test_masked_keys_get_nothing(make_call: MakeCall) -> None:
    """A key with a bias of minus infinity has weight zero, and the others still sum to one."""
    bias = torch.zeros(5, 5, dtype=torch.float64)
    bias[:, 3] = float("-inf")
    maps = replace(make_call(), bias=bias).maps()
    assert maps[..., 3].count_nonzero() == 0
    torch.testing.assert_close(maps.sum(dim=-1), torch.ones(2, 3, 5, dtype=torch.float64))


@pytest.mark.parametrize(
    ("given", "computed"),
    [(torch.bfloat16, torch.float32), (torch.float16, torch.float32), (torch.float64, torch.float64)],
)
def test_logits_are_float32_or_better(make_call: MakeCall, given: torch.dtype, computed: torch.dtype) -> None:
    """Low precision is raised before the product, also under autocast."""
    call = make_call(dtype=given, bias=(5, 5))
    exact = replace(call, q=call.q.to(computed), k=call.k.to(computed)).logits()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = call.logits()
    assert logits.dtype == computed
    assert torch.equal(exact, logits)


def test_a_query_without_keys_attends_to_nothing(make_call: MakeCall) -> None:
    """Where every key of a query is masked, its row and gradient are zero, as in torch."""
    bias = torch.zeros(5, 5, dtype=torch.float64)
    bias[2] = float("-inf")
    call = replace(make_call(), bias=bias)
    leaf = call.k.requires_grad_()
    expected = F.scaled_dot_product_attention(call.q, leaf, call.v, bias, scale=call.scale)
    torch.testing.assert_close(call.maps() @ call.v, expected)
    assert call.maps()[:, :, 2].count_nonzero() == 0
    given, wanted = (torch.autograd.grad(out.sum(), leaf)[0] for out in (call.maps() @ call.v, expected))
    torch.testing.assert_close(given, wanted)


def test_detach_cuts_every_tensor(make_call: MakeCall) -> None:
    """A detached call keeps its values and leaves the graph."""
    call = make_call(bias=(5, 5))
    assert call.bias is not None
    for tensor in (call.q, call.k, call.v, call.bias):
        tensor.requires_grad_()
    cut = call.detach()
    assert cut.bias is not None
    assert not any(tensor.requires_grad for tensor in (cut.q, cut.k, cut.v, cut.bias))
    assert torch.equal(call.maps(), cut.maps())
    assert call.scale == cut.scale
