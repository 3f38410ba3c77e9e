"""Parts of a call, in some heads, in the place of a block's own; several heads for one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from vitkd_bench.attention import (
    AttentionCall,
    AveragedCall,
    PartialCall,
    Tap,
    plain_distillation,
    select_heads,
    with_heads,
)
from vitkd_bench.attention.stand_ins import completed

MakeCall = Callable[..., AttentionCall]
MakeViT = Callable[..., Any]


def partial_of(call: AttentionCall, parts: str, heads: tuple[int, ...] | None = None) -> PartialCall:
    """Let parts of a call stand in: words divided by blanks."""
    return PartialCall(call.q, call.k, call.v, call.bias, call.scale, frozenset(parts.split()), heads)  # type: ignore[arg-type]


def attended(call: AttentionCall) -> Tensor:
    """Attend as a call says, by its maps."""
    return call.maps() @ call.v


@pytest.mark.parametrize("bias", [None, "own", "given", "both"])
@pytest.mark.parametrize("heads", [(0,), (2, 0), None])
def test_a_map_stands_in_for_some_heads(
    make_call: MakeCall, heads: tuple[int, ...] | None, bias: str | None
) -> None:
    """Chosen heads attend by the given map (its scale, bias and width too), the others by their own."""
    own = make_call(width=4, bias=(3, 5, 5) if bias in {"own", "both"} else None)
    given = replace(
        make_call(width=6, bias=(1, 1, 5, 5) if bias in {"given", "both"} else None, seed=1), scale=0.2
    )
    mixed = completed(partial_of(given, "map", heads), own)
    for head in range(3):
        source = given if heads is None or head in heads else own
        torch.testing.assert_close(mixed.maps()[:, head], source.maps()[:, head])
    assert mixed.v is own.v


@pytest.mark.parametrize("heads", [(1,), None])
@pytest.mark.parametrize("parts", ["q", "k", "v", "q k", "q k v", "map v"])
def test_parts_stand_in_by_name(make_call: MakeCall, parts: str, heads: tuple[int, ...] | None) -> None:
    """Each of q, k and v is the given one in the chosen heads and the own one elsewhere; the bias stays."""
    own, given = make_call(bias=(5, 5)), replace(make_call(seed=1), scale=0.9)
    mixed = completed(partial_of(given, parts, heads), own)
    for head in range(3):
        here = heads is None or head in heads
        for part in "qkv":
            wanted = part in parts.split() or ("map" in parts and part in "qk")
            if "map" in parts and part in "qk":
                continue  # rescaled; its maps are compared in the test above
            source = given if here and wanted else own
            assert torch.equal(getattr(mixed, part)[:, head], getattr(source, part)[:, head])
    if "map" not in parts:
        assert mixed.bias is own.bias
        assert mixed.scale == own.scale


def test_the_others_keep_their_gradients(make_call: MakeCall) -> None:
    """Where a map stands in, q and k of the block get nothing; its other heads get what they would."""
    own, given = make_call(), make_call(seed=1)
    leaves = own.q.requires_grad_(), own.k.requires_grad_()
    alone = torch.autograd.grad(attended(own).square().sum(), leaves)
    mixed = torch.autograd.grad(
        attended(completed(partial_of(given, "map", (1,)), own)).square().sum(), leaves
    )
    for before, after in zip(alone, mixed, strict=True):
        assert after[:, 1].abs().max() == 0
        torch.testing.assert_close(after[:, ::2], before[:, ::2])


def test_a_part_of_another_shape_is_refused(make_call: MakeCall) -> None:
    """A query of other width cannot meet the block's keys, and the message gives both shapes."""
    with pytest.raises(
        ValueError, match=r"q of shape \(2, 3, 5, 6\) cannot stand in for one of \(2, 3, 5, 4\)"
    ):
        completed(partial_of(make_call(width=6), "q"), make_call(width=4))


@pytest.mark.parametrize("parts", ["map", "q", "k", "v", "q k v"])
@pytest.mark.parametrize("heads", [None, (0, 2)])
def test_the_tap_puts_parts_in_their_place(
    make_vit: MakeViT, images: Tensor, parts: str, heads: tuple[int, ...] | None
) -> None:
    """A network whose block uses another's parts gives what that block computes by hand, gradients too."""
    student, teacher = make_vit(depth=2, seed=1), make_vit(depth=2, seed=2)
    reader, tap = Tap(teacher.blocks), Tap(student.blocks)
    reader.read([0])
    teacher(images)
    given = partial_of(reader.calls[0].detach(), parts, heads)
    tap.read([0])
    tap.replace({0: given})
    found = student(images)
    own = tap.calls[0]
    tap.clear()

    block = student.blocks[0]
    tokens = student.embed(images)
    mixed = attended(completed(given, own)).transpose(1, 2).reshape(tokens.shape)
    tokens = tokens + block.proj(mixed)
    tokens = student.blocks[1](tokens + block.mlp(tokens))
    expected = student.pool(tokens).mean(dim=1)
    torch.testing.assert_close(found, expected)
    weight = block.qkv.weight
    actual, hand = (
        torch.autograd.grad(out.sum(), weight, retain_graph=True, materialize_grads=True)[0]
        for out in (found, expected)
    )
    torch.testing.assert_close(actual, hand)


@pytest.mark.parametrize("parts", ["map", "q", "v"])
def test_parts_survive_checkpointing(make_vit: MakeViT, images: Tensor, parts: str) -> None:
    """Recomputed in backward, a block with a part of another's gives the gradients that it gives without."""
    gradients = []
    for checkpointing in ("none", "block"):
        student, teacher = make_vit(seed=1), make_vit(seed=2)
        student.checkpointing = checkpointing
        reader, tap = Tap(teacher.blocks), Tap(student.blocks)
        reader.read([1])
        teacher(images)
        tap.replace({1: partial_of(reader.calls[1].detach(), parts, (0,))})
        student(images).sum().backward()
        gradients.append(student.blocks[1].qkv.weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


def test_a_mean_of_maps(make_vit: MakeViT, make_call: MakeCall) -> None:
    """A block of 3 heads that is given 6 attends by the mean map of each pair, biases included."""
    given = make_call(2, 6, 5, 4, bias=(6, 5, 5), seed=3)
    vit = make_vit(depth=1, heads=3)
    tap = Tap(vit.blocks)
    tokens = torch.randn(2, 5, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    tap.read([0])
    tap.replace({0: AveragedCall(given.q, given.k, given.v, given.bias, given.scale)})
    found = vit.blocks[0](tokens)
    maps = given.maps().view(2, 3, 2, 5, 5).mean(dim=2)
    mixed = (maps @ tap.calls[0].v).transpose(1, 2).reshape(2, 5, 12)
    after = tokens + vit.blocks[0].proj(mixed)
    torch.testing.assert_close(found, after + vit.blocks[0].mlp(after))


def test_heads_that_do_not_divide_are_refused(make_vit: MakeViT, make_call: MakeCall, images: Tensor) -> None:
    """Four heads have no place in three, and a plain call of six has none either."""
    for count, kind in ((4, AveragedCall), (6, AttentionCall)):
        call = make_call(2, count, 5, 4)
        vit = make_vit()
        tap = Tap(vit.blocks)
        tap.replace({0: kind(call.q, call.k, call.v, None, 1.0)})
        with pytest.raises(ValueError, match=rf"are \(2, 3, 5\) in the network and \(2, {count}, 5\)"):
            vit(images)
        tap.clear()


def test_detached_and_changed_it_stays_what_it_is(make_call: MakeCall) -> None:
    """A part of a call is that part after `detach` and `replace` as well."""
    part = partial_of(make_call(), "q", (1,))
    for same in (part.detach(), replace(part, q=part.q + 1)):
        assert isinstance(same, PartialCall)
        assert (same.parts, same.heads) == (part.parts, part.heads)


@pytest.mark.parametrize("shape", [None, (), (5, 5), (1, 5, 5), (3, 5, 5), (2, 3, 5, 5)])
def test_chosen_and_repeated_heads_keep_their_maps(
    make_call: MakeCall, shape: tuple[int, ...] | None
) -> None:
    """The maps of chosen heads are those maps; repeated heads stand in a row; a bias of any shape follows."""
    call = make_call(bias=shape)
    chosen, repeated = select_heads(call, [2, 0]), with_heads(call, 6)
    assert torch.equal(chosen.maps(), call.maps()[:, [2, 0]])
    assert torch.equal(chosen.v, call.v[:, [2, 0]])
    torch.testing.assert_close(repeated.maps(), call.maps()[:, [0, 0, 1, 1, 2, 2]])
    assert torch.equal(repeated.v, call.v[:, [0, 0, 1, 1, 2, 2]])
    assert select_heads(call, [0, 1, 2]) is with_heads(call, 3) is call


def test_the_distance_of_all_heads_is_the_mean_of_each(make_call: MakeCall) -> None:
    """Chosen one by one, heads have distances whose mean is that of all."""
    student, teacher = make_call(), make_call(seed=1)
    each = [plain_distillation(select_heads(student, [h]), select_heads(teacher, [h])) for h in range(3)]
    torch.testing.assert_close(torch.stack(each).mean(), plain_distillation(student, teacher))


@pytest.mark.parametrize("heads", [[], [3], [-1], [1, 1]])
def test_heads_that_are_not_there_are_refused(make_call: MakeCall, heads: list[int]) -> None:
    """None, one beyond, one below and one twice are no choice; 4 is no multiple of 3."""
    with pytest.raises(ValueError, match="numbers from 0 to 2, each once"):
        select_heads(make_call(), heads)
    with pytest.raises(ValueError, match="3 heads cannot be repeated to 4"):
        with_heads(make_call(), 4)
