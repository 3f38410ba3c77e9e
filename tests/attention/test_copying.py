from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from vitkd_bench.attention import AttentionCall, copied_attention, copying, tiles

MakeCall = Callable[..., AttentionCall]


@pytest.fixture(params=[(1, 1, 1), (1000, 1, 1000), (1000, 1000, 1000)], ids=["not kept", "tiled", "whole"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let maps be made never, tile by tile, or whole, from the first key on."""
    for name, keys in zip(("FUSED_FROM", "TILED_FROM", "NOT_KEPT_FROM"), request.param, strict=True):
        monkeypatch.setattr(copying, name, keys)
    return str(request.node.callspec.id)


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("entries", [40, 2**18])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("tokens", [1, 17, 197])
@pytest.mark.parametrize("width", [3, 4, 7])
def test_copy_applies_the_map_to_the_values(
    make_call: MakeCall,
    monkeypatch: pytest.MonkeyPatch,
    width: int,
    tokens: int,
    entries: int,
    *,
    biased: bool,
) -> None:
    """Copied attention is the teacher's map times the student's values, and so its gradient, at any width."""
    monkeypatch.setattr(tiles, "TILE_CPU", entries * tokens)
    teacher = make_call(tokens=tokens, width=4, bias=(1, 3, tokens, tokens) if biased else None)
    v = make_call(tokens=tokens, width=width, seed=1).v
    fused, plain = v.clone().requires_grad_(), v.clone().requires_grad_()
    upstream = torch.randn(v.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    out, expected = copied_attention(teacher, fused), teacher.maps() @ plain
    torch.testing.assert_close(out, expected, atol=1e-8, rtol=0)
    out.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(fused.grad, plain.grad, atol=1e-8, rtol=0)


@pytest.mark.usefixtures("form")
def test_a_call_that_wants_gradients_gets_them(make_call: MakeCall) -> None:
    """Queries, keys and bias that belong to the graph are trained through copied attention."""
    call, v = make_call(bias=(3, 5, 5)), make_call(seed=1).v
    found = []
    for attend in (copied_attention, lambda c, v: c.maps() @ v):
        assert call.bias is not None
        leaves = [t.clone().requires_grad_() for t in (call.q, call.k, call.bias, v)]
        given = AttentionCall(leaves[0], leaves[1], call.v, leaves[2], call.scale)
        found.append(torch.autograd.grad(attend(given, leaves[3]).square().sum(), leaves))
    for actual, expected in zip(*found, strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-8, rtol=0)


def test_forms_go_by_size_and_gradients(make_call: MakeCall) -> None:
    """From 1024 keys on a constant map is not kept, and can be differentiated once; below twice."""
    for tokens in (127, 128, 1023, 1024):
        call, v = make_call(1, 1, tokens), make_call(1, 1, tokens, seed=1).v.requires_grad_()
        value = copied_attention(call, v).square().sum()
        if tokens < 1024:
            (first,) = torch.autograd.grad(value, v, create_graph=True)
            assert torch.autograd.grad(first.sum(), v)[0].count_nonzero() > 0
        else:
            with pytest.raises(RuntimeError, match="can be differentiated once"):
                torch.autograd.grad(value, v, create_graph=True)


@pytest.mark.usefixtures("form")
def test_a_query_that_sees_nothing_gives_nothing(make_call: MakeCall) -> None:
    """A row whose keys are all masked is zero, and so is what it gives back to the values."""
    bias = torch.zeros(5, 5, dtype=torch.float64)
    bias[2] = float("-inf")
    call = replace(make_call(), bias=bias)
    v = make_call(seed=1).v.requires_grad_()
    out = copied_attention(call, v)
    assert out[:, :, 2].count_nonzero() == 0
    (gradient,) = torch.autograd.grad(out, v, torch.ones_like(out))
    others = [0, 1, 3, 4]
    torch.testing.assert_close(gradient, call.maps()[:, :, others].sum(dim=2).unsqueeze(-1).expand_as(v))


@pytest.mark.usefixtures("form")
def test_autocast_reaches_the_values_and_comes_back(make_call: MakeCall) -> None:
    """Under bfloat16 autocast values in float32 get their gradient in float32, near the exact one."""
    call = make_call(tokens=33, dtype=torch.float32)
    v = make_call(tokens=33, dtype=torch.float32, seed=1).v.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = copied_attention(call, v)
    (gradient,) = torch.autograd.grad(out.float().sum(), v)
    assert gradient.dtype == torch.float32
    torch.testing.assert_close(
        gradient, call.maps().sum(dim=2).unsqueeze(-1).expand_as(v), atol=0.05, rtol=0.05
    )


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("tokens", [5, 65])
def test_copy_takes_values_as_they_lie(make_call: MakeCall, tokens: int) -> None:
    """Values whose last dimension is not contiguous give the same as contiguous ones."""
    teacher, v = make_call(tokens=tokens), make_call(tokens=tokens, seed=1).v
    turned = v.mT.contiguous().mT
    assert turned.stride(-1) != 1
    torch.testing.assert_close(
        copied_attention(teacher, turned), copied_attention(teacher, v), atol=1e-12, rtol=0
    )


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("tokens", [5, 65])
def test_copy_keeps_the_dtype_of_the_values(make_call: MakeCall, tokens: int) -> None:
    """A teacher in another precision gives way to the student's."""
    teacher, v = make_call(tokens=tokens, bias=(tokens, tokens)), make_call(tokens=tokens, seed=1).v
    for dtype in (torch.float32, torch.bfloat16):
        out = copied_attention(teacher, v.to(dtype))
        assert out.dtype == dtype
        torch.testing.assert_close(out.double(), teacher.maps() @ v, atol=3e-2, rtol=0)


def test_copy_drops_attention_as_asked(make_call: MakeCall) -> None:
    """The dropout probability reaches the function that applies it."""
    teacher, v = make_call(), make_call(seed=1).v
    torch.manual_seed(0)
    out = copied_attention(teacher, v, dropout_p=0.5)
    torch.manual_seed(0)
    expected = F.scaled_dot_product_attention(teacher.q, teacher.k, v, dropout_p=0.5, scale=teacher.scale)
    assert torch.equal(expected, out)
    assert not torch.allclose(out, copied_attention(teacher, v))


@pytest.mark.parametrize("differing", [{"batch": 3}, {"heads": 1}, {"tokens": 6}])
def test_copy_refuses_what_does_not_fit(make_call: MakeCall, differing: dict[str, int]) -> None:
    """Another batch, number of heads or of tokens is refused, even where it would broadcast."""
    with pytest.raises(ValueError, match="needs equal batch, heads and tokens"):
        copied_attention(make_call(), make_call(**differing).v)
