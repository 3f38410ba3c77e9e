from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.methods.attention_calls import Pair
from tests.methods.conftest import MakeCell, MakeMethod, as_teacher
from vitkd_bench.contracts import Batch
from vitkd_bench.methods.qkv_copy import QKVCopy
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import SIZES, BadInputError, ResolvedDataset

MakePair = Callable[..., Pair]
PARTS = [["q"], ["k"], ["v"], ["q", "k"], ["q", "k", "v"]]


@pytest.fixture
def make_pair(
    make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset, batch: Batch
) -> MakePair:
    """Make a micro pair under the copy of q, k or v with these settings."""

    def make(family: str = "deit", **settings: Any) -> Pair:
        cell = make_cell(f"micro/{family}", "native")
        return Pair(make_method("qkv_copy", cell, **settings), digits, batch)

    return make


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("heads", ["all", [1]])
def test_blocks_attend_with_what_is_copied(make_pair: MakePair, parts: list[str], heads: Any) -> None:
    """Head by head, a block attends with the copied parts of the teacher beside its own, as published."""
    pair = make_pair("beitv2", parts=parts, layers=[2], heads=heads)
    student, given = pair.student.eval(), pair.read()
    seen: list[torch.Tensor] = []
    proj = student.blocks[2].get_submodule("attn.proj")
    handle = proj.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    own = student(pair.batch.pixels, frozenset({"attention/2"}), pair.method.injected(given)).attention[2]
    handle.remove()
    mixed = {part: getattr(own, part).clone() for part in "qkv"}
    for part in parts:
        which = slice(None) if heads == "all" else heads
        mixed[part][:, which] = getattr(given.attention[2], part)[:, which]
    logits = own.scale * mixed["q"] @ mixed["k"].transpose(-1, -2)
    assert own.bias is not None
    expected = (torch.softmax(logits + own.bias, dim=-1) @ mixed["v"]).transpose(1, 2).flatten(2)
    torch.testing.assert_close(seen[0], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("parts", PARTS[:4])
def test_only_what_is_copied_goes_without_gradient(make_pair: MakePair, parts: list[str]) -> None:
    """Rows of copied parts have gradient exactly zero, and after a decayed step are as they were."""
    pair = make_pair(parts=parts, layers=[1])
    before = pair.rows(1).clone()
    optimiser = torch.optim.AdamW(pair.student.parameters(), lr=0.01, weight_decay=0.5)
    pair.backward()
    gradient = pair.gradient(1)
    optimiser.step()
    pair.method.after_step(pair.student, 0.5)
    for i, part in enumerate("qkv"):
        assert (gradient[i].abs().max() == 0) == (part in parts)
        assert torch.equal(pair.rows(1)[i], before[i]) == (part in parts)


@pytest.mark.parametrize("parts", PARTS)
def test_copy_into_equal_weights_changes_nothing(make_pair: MakePair, parts: list[str]) -> None:
    """A student with its teacher's weights gives the teacher's logits, whatever is copied."""
    pair = make_pair("beitv2", parts=parts)
    teacher = as_teacher(pair.student)
    given = teacher(pair.batch.pixels, pair.method.teacher_taps())
    copied = pair.student.eval()(pair.batch.pixels, frozenset(), pair.method.injected(given)).logits
    own = teacher(pair.batch.pixels, frozenset({"logits"})).logits
    assert copied is not None
    torch.testing.assert_close(copied, own, atol=1e-5, rtol=1e-5)


def test_the_order_of_parts_plays_no_part() -> None:
    """`[k, q]` is `[q, k]`, in the settings and in the run id; the default is the queries."""
    one, other = (QKVCopy.Config.parse({"parts": parts}) for parts in (["k", "q"], ["q", "k"]))
    assert one == other
    assert one.declared() == {"parts": ["q", "k"]}
    assert QKVCopy.Config.parse({"parts": ["q"]}).declared() == {}


@pytest.mark.parametrize("parts", [[], ["q", "q"], ["map"], "q"])
def test_other_parts_are_refused(parts: object) -> None:
    """None, one twice, or another word is refused by field."""
    with pytest.raises(BadInputError, match=r"^here: parts"):
        QKVCopy.Config.parse({"parts": parts}, "here")


def test_another_width_is_refused(make_cell: MakeCell) -> None:
    """Queries of another width cannot meet the student's keys; the message has both widths."""
    size = SIZES["micro"].model_copy(update={"width": 96})
    cell = make_cell("micro/deit", make_cell().student.with_(size=size))
    why = METHODS.get("qkv_copy").refuses(QKVCopy.Config(), cell)
    assert why is not None
    assert why.startswith("widths differ: student 96, teacher micro/deit ")


def test_the_record_counts_what_is_unused(make_pair: MakePair) -> None:
    """One part of two blocks: 2 x D x D weights."""
    pair = make_pair(parts=["v"], layers=[0, 1])
    width = pair.student.architecture.size.width
    assert pair.method.notes() == (
        f"{2 * width * width} weights of the student's v are unused and frozen, in blocks 0, 1",
    )
