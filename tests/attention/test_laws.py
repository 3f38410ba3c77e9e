from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from vitkd_bench.attention import AttentionCall, attention_distillation, copied_attention

MakeCall = Callable[..., AttentionCall]
distil = partial(attention_distillation, form="fused")

SIZES = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 3),
        "heads": st.integers(1, 4),
        "tokens": st.integers(1, 9),
        "width": st.integers(1, 6),
        "spread": st.floats(0.0, 20.0),
    }
)
SEEDS = st.integers(0, 2**31)


def laws(function: Callable[..., None]) -> Callable[..., None]:
    """Try a law on two dozen examples, the same ones in every run."""
    return settings(max_examples=25, deadline=None, derandomize=True)(function)


def entropy(call: AttentionCall) -> Tensor:
    """Compute the mean entropy of the rows, in nats."""
    maps = call.maps()
    return -(maps * maps.clamp_min(1e-300).log()).sum(dim=-1).mean()


@laws
@given(sizes=SIZES, seed=SEEDS)
def test_rows_sum_to_one(make_call: MakeCall, sizes: dict[str, int], seed: int) -> None:
    """Every row of every map is a distribution over the keys."""
    maps = make_call(**sizes, seed=seed).maps()
    assert bool((maps >= 0).all())
    torch.testing.assert_close(maps.sum(dim=-1), torch.ones(maps.shape[:3], dtype=torch.float64))


@laws
@given(sizes=SIZES, seed=SEEDS)
def test_cross_entropy_is_kl_and_entropy(make_call: MakeCall, sizes: dict[str, int], seed: int) -> None:
    """Cross-entropy less KL is the teacher's entropy."""
    student, teacher = make_call(**sizes, seed=seed), make_call(**sizes, seed=seed + 1)
    ce = distil(student, teacher, loss="ce")
    kl = distil(student, teacher, loss="kl")
    torch.testing.assert_close(ce - kl, entropy(teacher), atol=1e-9, rtol=1e-9)


@laws
@given(sizes=SIZES, seed=SEEDS)
def test_kl_is_a_distance_from_zero(make_call: MakeCall, sizes: dict[str, int], seed: int) -> None:
    """KL of a map to itself is zero, with no gradient; to another one it is not negative."""
    student, teacher = make_call(**sizes, seed=seed), make_call(**sizes, seed=seed + 1)
    student.q.requires_grad_()
    own = distil(student, student, loss="kl")
    assert own.item() == 0
    assert torch.autograd.grad(own, student.q)[0].abs().max() < 1e-15
    assert distil(student, teacher, loss="kl") >= -1e-12


@laws
@given(sizes=SIZES, seed=SEEDS, shift=st.floats(-50, 50))
def test_a_constant_in_a_row_changes_nothing(
    make_call: MakeCall, sizes: dict[str, int], seed: int, shift: float
) -> None:
    """A softmax does not see a constant added to all logits of a row: loss and gradients stay."""
    tokens = sizes["tokens"]
    student = make_call(**sizes, seed=seed, bias=(1, sizes["heads"], tokens, tokens))
    teacher = make_call(**sizes, seed=seed + 1)
    rows = shift * torch.arange(1.0, tokens + 1, dtype=torch.float64).unsqueeze(-1)
    assert student.bias is not None
    moved = replace(student, bias=(student.bias + rows).requires_grad_())
    student.bias.requires_grad_()
    here, there = distil(student, teacher), distil(moved, teacher)
    torch.testing.assert_close(here, there, atol=1e-9, rtol=1e-9)
    assert moved.bias is not None
    gradients = torch.autograd.grad(here, student.bias)[0], torch.autograd.grad(there, moved.bias)[0]
    torch.testing.assert_close(*gradients, atol=1e-9, rtol=1e-9)


@laws
@given(sizes=SIZES, seed=SEEDS)
def test_copy_of_own_map_is_own_attention(make_call: MakeCall, sizes: dict[str, int], seed: int) -> None:
    """A network that copies its own attention attends as before."""
    call = make_call(**sizes, seed=seed)
    expected = F.scaled_dot_product_attention(call.q, call.k, call.v, scale=call.scale)
    torch.testing.assert_close(copied_attention(call, call.v), expected, atol=1e-9, rtol=1e-9)


@laws
@given(sizes=SIZES, seed=SEEDS, turn=SEEDS)
def test_order_of_keys_does_not_matter(
    make_call: MakeCall, sizes: dict[str, int], seed: int, turn: int
) -> None:
    """Both sides' keys in another order have the same distance."""
    order = torch.randperm(sizes["tokens"], generator=torch.Generator().manual_seed(turn))
    student, teacher = make_call(**sizes, seed=seed), make_call(**sizes, seed=seed + 1)
    turned = [replace(call, k=call.k[:, :, order]) for call in (student, teacher)]
    expected = distil(student, teacher, loss="kl")
    torch.testing.assert_close(distil(*turned, loss="kl"), expected, atol=1e-9, rtol=1e-9)
