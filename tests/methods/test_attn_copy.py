from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.methods.attention_calls import Pair
from tests.methods.conftest import MakeCell, MakeMethod
from vitkd_bench.contracts import Batch
from vitkd_bench.methods.attn_copy import AttentionCopy
from vitkd_bench.spec import BadInputError, ResolvedDataset

MakePair = Callable[..., Pair]


@pytest.fixture
def make_pair(
    make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset, batch: Batch
) -> MakePair:
    """Make a micro pair under attention copy with these settings."""

    def make(family: str = "deit", **settings: object) -> Pair:
        cell = make_cell(f"micro/{family}", "native")
        return Pair(make_method("attn_copy", cell, **settings), digits, batch)

    return make


@pytest.mark.parametrize("family", ["deit", "beitv2", "dinov2_reg"])
def test_copied_heads_attend_as_the_teacher_and_the_others_by_themselves(
    make_pair: MakePair, family: str
) -> None:
    """Head by head, what a block gives before its projection is the right map times the student's values."""
    pair = make_pair(family, heads=[0, 2], layers=[1])
    student, given = pair.student.eval(), pair.read()
    seen: list[torch.Tensor] = []
    proj = student.blocks[1].get_submodule("attn.proj")
    handle = proj.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    own = student(pair.batch.pixels, frozenset({"attention/1"}), pair.method.injected(given)).attention[1]
    handle.remove()
    maps = own.maps().clone()
    maps[:, [0, 2]] = given.attention[1].maps()[:, [0, 2]]
    expected = (maps @ own.v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(seen[0], expected, atol=1e-5, rtol=1e-4)


def test_only_copied_heads_lose_their_queries(make_pair: MakePair) -> None:
    """Queries and keys of copied heads have gradient exactly zero; no others, nor values, have."""
    pair = make_pair(heads="last:1", layers="first:2")
    pair.backward()
    for block in range(4):
        gradient = pair.gradient(block)
        for part, head in ((part, head) for part in (0, 1) for head in range(3)):
            assert (gradient[part, head].abs().max() == 0) == (block < 2 and head == 2)
        assert gradient[2].abs().amax(dim=(1, 2)).min() > 0


@pytest.mark.parametrize("lc_compat", [False, True])
def test_unused_rows_are_held_unless_the_published_code_is_asked_for(
    make_pair: MakePair, lc_compat: Any
) -> None:
    """After a decayed step the rows of copied heads stay to the bit; with `lc_compat` they shrink."""
    pair = make_pair(heads=[1], lc_compat=lc_compat)
    before = pair.rows(0).clone()
    optimiser = torch.optim.AdamW(pair.student.parameters(), lr=0.01, weight_decay=0.5)
    pair.backward()
    optimiser.step()
    pair.method.after_step(pair.student, 0.5)
    after = pair.rows(0)
    assert torch.equal(after[:2, 1], before[:2, 1]) == (not lc_compat)
    assert not torch.equal(after[:2, 0], before[:2, 0])
    if lc_compat:
        torch.testing.assert_close(after[:2, 1], before[:2, 1] * (1 - 0.01 * 0.5))


def test_the_record_counts_what_is_unused(make_pair: MakePair) -> None:
    """Two parts of one head of three, in two blocks of width D: 2 x 2 x D / 3 x D; or a word on decay."""
    pair = make_pair(heads=[1], layers=[0, 3])
    width = pair.student.architecture.size.width
    (note,) = pair.method.notes()
    assert note == (
        f"{2 * 2 * width * width // 3} query and key weights of the student are unused and frozen, "
        "in blocks 0, 3"
    )
    (note,) = make_pair(lc_compat=True).method.notes()
    assert "left to weight decay" in note


def test_heads_beyond_those_there_are_refused(make_cell: MakeCell, make_method: MakeMethod) -> None:
    """A head that the network lacks is refused, and a method made in spite of that copies no fewer."""
    config = AttentionCopy.Config.parse({"heads": "first:4"})
    assert AttentionCopy.refuses(config, make_cell()) == (
        "heads first:4 reach beyond the network's 3 heads (0 to 2)"
    )
    with pytest.raises(BadInputError, match="beyond the network's 3 heads"):
        _ = make_method("attn_copy", make_cell(), heads=[7]).heads  # type: ignore[attr-defined]
