from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from vitkd_bench.attention import AttentionCall, copied_attention

MakeCall = Callable[..., AttentionCall]


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("tokens", [1, 17, 63, 64, 197])
@pytest.mark.parametrize("width", [3, 4, 7])
def test_copy_applies_the_map_to_the_values(
    make_call: MakeCall, width: int, tokens: int, *, biased: bool
) -> None:
    """Copied attention is the teacher's map times the student's values, and so its gradient, at any width."""
    teacher = make_call(tokens=tokens, width=4, bias=(1, 3, tokens, tokens) if biased else None)
    v = make_call(tokens=tokens, width=width, seed=1).v
    fused, plain = v.clone().requires_grad_(), v.clone().requires_grad_()
    upstream = torch.randn(v.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    out, expected = copied_attention(teacher, fused), teacher.maps() @ plain
    torch.testing.assert_close(out, expected, atol=1e-8, rtol=0)
    out.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(fused.grad, plain.grad, atol=1e-8, rtol=0)


@pytest.mark.parametrize("tokens", [5, 65])
def test_copy_takes_values_as_they_lie(make_call: MakeCall, tokens: int) -> None:
    """Values whose last dimension is not contiguous give the same as contiguous ones."""
    teacher, v = make_call(tokens=tokens), make_call(tokens=tokens, seed=1).v
    turned = v.mT.contiguous().mT
    assert turned.stride(-1) != 1
    torch.testing.assert_close(
        copied_attention(teacher, turned), copied_attention(teacher, v), atol=1e-12, rtol=0
    )


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
