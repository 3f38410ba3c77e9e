from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from vitkd_bench.attention import (
    AttentionCall,
    Loss,
    attention_distillation,
    plain_distillation,
    sweep,
    tiles,
)

MakeCall = Callable[..., AttentionCall]
LOSSES: tuple[Loss, ...] = get_args(Loss)


def losses_and_gradients(
    student: AttentionCall, teacher: AttentionCall, form: Any, loss: Loss, **reduction: Any
) -> list[Tensor]:
    """Compute the loss, times three, and what it gives to q, k and bias."""
    leaves = [
        t.detach().clone().requires_grad_() for t in (student.q, student.k, student.bias) if t is not None
    ]
    given = replace(student, q=leaves[0], k=leaves[1], bias=leaves[2] if len(leaves) == 3 else None)
    value = 3 * attention_distillation(given, teacher, loss=loss, form=form, **reduction)
    return [value.detach(), *torch.autograd.grad(value, leaves)]


def assert_forms_agree(
    student: AttentionCall, teacher: AttentionCall, loss: Loss, atol: float = 1e-8, **reduction: Any
) -> None:
    """Compare loss and gradients of the fused and the plain form."""
    plain = losses_and_gradients(student, teacher, "plain", loss, **reduction)
    fused = losses_and_gradients(student, teacher, "fused", loss, **reduction)
    for expected, actual in zip(plain, fused, strict=True):
        torch.testing.assert_close(actual, expected, atol=atol, rtol=0)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("biases", ["none", "student", "teacher", "both"])
@pytest.mark.parametrize(("tokens", "width"), [(1, 1), (2, 5), (17, 8), (197, 7)])
def test_fused_is_plain(make_call: MakeCall, tokens: int, width: int, biases: str, loss: Loss) -> None:
    """Loss and gradients of the fused form are those of the plain one, whatever the sizes and biases."""
    shape = (1, 3, tokens, tokens)
    student = make_call(2, 3, tokens, width, bias=shape if biases in {"student", "both"} else None)
    teacher = make_call(2, 3, tokens, width, bias=shape if biases in {"teacher", "both"} else None, seed=1)
    assert_forms_agree(student, teacher, loss)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_mean_over_keys_is_a_share_of_the_sum(make_call: MakeCall, loss: Loss) -> None:
    """In both forms the mean over keys is the sum over their number, gradients included."""
    student, teacher = make_call(tokens=7, bias=(7, 7)), make_call(tokens=7, seed=1)
    assert_forms_agree(student, teacher, loss, over_keys="mean")
    for form in ("fused", "plain"):
        summed = losses_and_gradients(student, teacher, form, loss)
        averaged = losses_and_gradients(student, teacher, form, loss, over_keys="mean")
        for whole, share in zip(summed, averaged, strict=True):
            torch.testing.assert_close(share, whole / 7)


@pytest.mark.parametrize("loss", ["ce", "jsd", "mse_logits"])
@pytest.mark.parametrize("entries", [1, 20, 60, 100, 289, 1000, 10**6])
@pytest.mark.parametrize("bias", [None, (3, 17, 17)])
def test_tiles_do_not_show(
    make_call: MakeCall,
    monkeypatch: pytest.MonkeyPatch,
    entries: int,
    bias: tuple[int, ...] | None,
    loss: Loss,
) -> None:
    """A tile of one row, some rows, one map, some heads or some samples gives the same numbers."""
    monkeypatch.setattr(tiles, "TILE_CPU", entries)
    student, teacher = make_call(3, 3, 17, bias=bias), make_call(3, 3, 17, seed=1)
    assert_forms_agree(student, teacher, loss)


@pytest.mark.parametrize("shape", [(), (5,), (5, 1), (3, 1, 1), (2, 1, 5, 5), (2, 3, 1, 5), (2, 3, 5, 5)])
@pytest.mark.parametrize("entries", [7, 10**6])
def test_bias_of_any_shape_gets_its_gradient(
    make_call: MakeCall, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], entries: int
) -> None:
    """The student's bias may be shared by samples, heads, queries or keys."""
    monkeypatch.setattr(tiles, "TILE_CPU", entries)
    assert_forms_agree(make_call(bias=shape), make_call(seed=1, bias=shape), "kl")


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_those_of_the_loss(make_call: MakeCall, loss: Loss) -> None:
    """Finite differences of the fused loss give its gradients, without any word of the plain form."""
    student, teacher = make_call(1, 2, 3, 2, bias=(2, 3, 3)), make_call(1, 2, 3, 2, seed=1)

    def fused(q: Tensor, k: Tensor, bias: Tensor) -> Tensor:
        return attention_distillation(replace(student, q=q, k=k, bias=bias), teacher, loss=loss, form="fused")

    assert student.bias is not None
    leaves = [t.clone().requires_grad_() for t in (student.q, student.k, student.bias)]
    assert torch.autograd.gradcheck(fused, leaves)


@pytest.mark.parametrize("loss", LOSSES)
def test_sides_may_differ_in_width_and_scale(make_call: MakeCall, loss: Loss) -> None:
    """A teacher with wider heads and another scale distils into the student, also from another precision."""
    student, teacher = make_call(width=4), replace(make_call(width=6, seed=1), scale=0.3)
    assert_forms_agree(student, teacher, loss)
    assert_forms_agree(student, replace(teacher, q=teacher.q.float(), k=teacher.k.float()), loss, atol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_inputs_may_lie_anyhow(make_call: MakeCall, loss: Loss) -> None:
    """Queries and keys cut from one projection, with heads inside tokens, need no copy beforehand."""
    packed = torch.randn(2, 17, 3, 3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    q, k, v = packed.permute(2, 0, 3, 1, 4).unbind(0)
    student = AttentionCall(q, k.mT.contiguous().mT, v, None, 0.5)
    assert_forms_agree(student, make_call(tokens=17, seed=1), loss)


def test_some_queries_only(make_call: MakeCall) -> None:
    """Queries are left out by cutting them from both calls; all keys stay."""
    student, teacher = make_call(), make_call(seed=1)
    ours, theirs = replace(student, q=student.q[:, :, 1:]), replace(teacher, q=teacher.q[:, :, 1:])
    rows = -(teacher.maps() * student.maps().log()).sum(dim=-1)
    assert_forms_agree(ours, theirs, "ce")
    torch.testing.assert_close(attention_distillation(ours, theirs, form="fused"), rows[:, :, 1:].mean())


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("form", ["fused", "plain"])
def test_keys_masked_on_both_sides_do_not_count(make_call: MakeCall, loss: Loss, form: Any) -> None:
    """A key that neither side may attend to changes nothing, and gives no NaN."""
    mask = torch.zeros(5, dtype=torch.float64)
    mask[4] = float("-inf")
    student, teacher = make_call(), make_call(seed=1)
    short = [replace(call, k=call.k[:, :, :4]) for call in (student, teacher)]
    masked = [replace(call, bias=mask) for call in (student, teacher)]
    expected = losses_and_gradients(short[0], short[1], form, loss)
    value, to_q, to_k, _ = losses_and_gradients(masked[0], masked[1], form, loss)
    torch.testing.assert_close(value, expected[0])
    torch.testing.assert_close(to_q, expected[1])
    torch.testing.assert_close(to_k[:, :, :4], expected[2])
    assert to_k[:, :, 4].count_nonzero() == 0


@pytest.mark.parametrize("form", ["fused", "plain"])
def test_the_teacher_gets_no_gradient(make_call: MakeCall, form: Any) -> None:
    """What the teacher was computed from stays without a gradient, its own or the student's."""
    student, teacher = make_call(), make_call(seed=1, bias=(5, 5))
    student.q.requires_grad_()
    assert teacher.bias is not None
    for tensor in (teacher.q, teacher.k, teacher.bias):
        tensor.requires_grad_()
    attention_distillation(student, teacher, form=form).backward()
    assert student.q.grad is not None
    assert all(tensor.grad is None for tensor in (teacher.q, teacher.k, teacher.bias))


@pytest.mark.parametrize("kept", ["q", "k", "bias"])
def test_only_what_wants_a_gradient_gets_one(make_call: MakeCall, kept: str) -> None:
    """Each of q, k and bias can be trained alone."""
    student, teacher = make_call(bias=(5, 5)), make_call(seed=1)
    leaf = getattr(student, kept).requires_grad_()
    (fused,) = torch.autograd.grad(attention_distillation(student, teacher, form="fused"), leaf)
    (plain,) = torch.autograd.grad(plain_distillation(student, teacher), leaf)
    torch.testing.assert_close(fused, plain)


@pytest.mark.parametrize("loss", LOSSES)
def test_low_precision_is_raised_and_given_back(make_call: MakeCall, loss: Loss) -> None:
    """Under autocast, half-precision maps are compared in float32; gradients come back in half precision."""
    student, teacher = (make_call(tokens=17, seed=seed, dtype=torch.bfloat16) for seed in (0, 1))
    student.q.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fused = attention_distillation(student, teacher, loss=loss, form="fused")
        plain = plain_distillation(student, teacher, loss=loss)
    fused.backward()
    assert fused.dtype == plain.dtype == torch.float32
    assert student.q.grad is not None
    assert student.q.grad.dtype == torch.bfloat16
    torch.testing.assert_close(fused, plain, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("form", ["fused", "plain"])
@pytest.mark.parametrize("spread", [30.0, 1e3, 1e6])
def test_extreme_logits_stay_finite(make_call: MakeCall, spread: float, form: Any, loss: Loss) -> None:
    """Maps of one single key each, on different keys, have a finite distance and finite gradients."""
    student, teacher = (make_call(dtype=torch.float32, spread=spread, seed=seed) for seed in (0, 1))
    for number in losses_and_gradients(student, teacher, form, loss):
        assert number.isfinite().all()


def test_backward_can_run_again(make_call: MakeCall) -> None:
    """A retained graph gives its gradient a second time."""
    student, teacher = make_call(), make_call(seed=1)
    student.q.requires_grad_()
    value = attention_distillation(student, teacher, form="fused")
    first = torch.autograd.grad(value, student.q, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(value, student.q)[0])


def test_second_derivatives_are_refused(make_call: MakeCall) -> None:
    """The fused form says that it can be differentiated once; the plain form goes on."""
    student, teacher = make_call(), make_call(seed=1)
    student.q.requires_grad_()
    with pytest.raises(RuntimeError, match="use form='plain'"):
        torch.autograd.grad(
            attention_distillation(student, teacher, form="fused"), student.q, create_graph=True
        )
    value = attention_distillation(student, teacher, form="plain")
    (first,) = torch.autograd.grad(value, student.q, create_graph=True)
    assert torch.autograd.grad(first.sum(), student.q)[0].count_nonzero() > 0


def test_no_gradient_is_made_where_none_is_wanted(
    make_call: MakeCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An evaluation pays for the loss only."""

    def fail(*_: object) -> None:
        raise AssertionError("a gradient was computed")

    monkeypatch.setattr(sweep._Gradients, "add", fail)
    student, teacher = make_call(), make_call(seed=1)
    expected = plain_distillation(student, teacher)
    torch.testing.assert_close(attention_distillation(student, teacher, form="fused"), expected)
    student.q.requires_grad_()
    with torch.no_grad():
        torch.testing.assert_close(attention_distillation(student, teacher, form="fused"), expected)


@pytest.mark.parametrize("form", ["fused", "plain"])
@pytest.mark.parametrize(
    ("differing", "said"),
    [
        ({"heads": 1}, r"heads \(3 and 1\)"),
        ({"tokens": 6}, r"queries \(5 and 6\), keys"),
        ({"batch": 1}, "batch"),
    ],
)
def test_maps_of_other_shape_are_refused(
    make_call: MakeCall, differing: dict[str, int], said: str, form: Any
) -> None:
    """Maps that cannot be laid on one another are refused by name, even where they would broadcast."""
    with pytest.raises(ValueError, match=said):
        attention_distillation(make_call(), make_call(**differing), form=form)


def test_auto_goes_by_size(make_call: MakeCall) -> None:
    """From 32 keys on the default is the form that can be differentiated once only."""

    def differentiate(keys: int) -> None:
        student, teacher = make_call(1, 1, keys), make_call(1, 1, keys, seed=1)
        value = attention_distillation(replace(student, q=student.q.requires_grad_()), teacher)
        torch.autograd.grad(value, student.q, create_graph=True)

    differentiate(31)
    with pytest.raises(RuntimeError, match="differentiated once"):
        differentiate(32)


def test_unknown_words_are_refused(make_call: MakeCall) -> None:
    """An unknown loss or form names the known ones."""
    student, teacher = make_call(), make_call(seed=1)
    with pytest.raises(ValueError, match="use one of ce, kl, mse, mse_logits, jsd, l1"):
        attention_distillation(student, teacher, loss="l2")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="use one of sum, mean"):
        attention_distillation(student, teacher, over_keys="max")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="use one of auto, fused, plain"):
        attention_distillation(student, teacher, form="flash")  # type: ignore[arg-type]
