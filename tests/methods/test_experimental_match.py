"""The setting `match: experimental_nearest`: maps of pairs whose depths and heads differ."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.methods.attention_calls import Pair
from tests.methods.conftest import MakeCell, MakeMethod
from vitkd_bench.contracts import Batch, CellFacts
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import SIZES, ResolvedDataset

MATCH = "experimental_nearest"


@pytest.fixture
def sized(make_cell: MakeCell) -> Any:
    """Make the cell of a student of so many blocks and heads under a teacher of 4 and 3."""

    def make(depth: int, heads: int, **changes: Any) -> CellFacts:
        width = SIZES["micro"].width // 3 * heads
        size = SIZES["micro"].model_copy(update={"depth": depth, "heads": heads, "width": width})
        return make_cell("micro/deit", make_cell().student.with_(size=size, **changes))

    return make


def refusal(name: str, cell: CellFacts, **settings: Any) -> str | None:
    """Ask a method whether it refuses a cell under settings."""
    entry = METHODS.get(name)
    return entry.refuses(entry.method.Config.parse(settings), cell)


@pytest.mark.parametrize("name", ["attn_copy", "attn_distill"])
def test_only_the_experimental_word_lets_sizes_differ(name: str, sized: Any) -> None:
    """By default depth and heads must be equal; under the word depth may differ, heads in whole groups."""
    assert "depth differ" in str(refusal(name, sized(2, 3)))
    assert "heads differ" in str(refusal(name, sized(4, 6)))
    for depth, heads in ((2, 3), (6, 1), (4, 6), (1, 1)):
        assert refusal(name, sized(depth, heads), match=MATCH) is None
    assert refusal(name, sized(4, 2), match=MATCH) == (
        "heads differ: student 2, teacher micro/deit 3; they are put in groups, so one number must divide "
        "the other"
    )
    assert "with match: exact only" in str(refusal(name, sized(4, 3), match=MATCH, heads=[0]))
    assert "tokens differ" in str(refusal(name, sized(2, 3, registers=1), match=MATCH))
    assert "reach beyond the network's 2 blocks" in str(refusal(name, sized(2, 3), match=MATCH, layers=[3]))


@pytest.mark.parametrize(("heads", "of_student"), [(1, [0, 0, 0]), (6, [0, 1, 2, 3, 4, 5]), (3, [0, 1, 2])])
def test_distances_pair_heads_in_groups(
    heads: int,
    of_student: list[int],
    sized: Any,
    make_method: MakeMethod,
    digits: ResolvedDataset,
    batch: Batch,
) -> None:
    """Blocks 0 and 1 of two meet 1 and 3 of four; each head meets all of its group, and the mean counts."""
    cell = sized(2, heads)
    pair = Pair(make_method("attn_distill", cell, match=MATCH, weight=1.0), digits, batch)
    given = pair.read()
    assert sorted(given.attention) == [1, 3]
    student = pair.student(batch.pixels, pair.method.student_taps())
    of_teacher = [i * 3 // len(of_student) for i in range(len(of_student))]
    expected = 0.0
    for own, theirs in ((0, 1), (1, 3)):
        s, t = student.attention[own].maps(), given.attention[theirs].maps()
        each = [
            -(t[:, j] * s[:, i].log()).sum(dim=-1).mean() for i, j in zip(of_student, of_teacher, strict=True)
        ]
        expected += torch.stack(each).mean().item()
    assert pair.parts()["attention"].item() == pytest.approx(expected, rel=1e-5)


def test_distance_from_the_mean_map(
    sized: Any, make_method: MakeMethod, digits: ResolvedDataset, batch: Batch
) -> None:
    """Where one head meets three, the cross-entropy is that from the mean of their maps."""
    pair = Pair(make_method("attn_distill", sized(4, 1), match=MATCH, weight=1.0), digits, batch)
    student = pair.student(batch.pixels, pair.method.student_taps())
    given = pair.read()
    expected = 0.0
    for block, call in student.attention.items():
        mean = given.attention[block].maps().mean(dim=1)
        expected -= (mean * call.maps()[:, 0].log()).sum(dim=-1).mean().item()
    assert pair.parts()["attention"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("heads", [1, 3, 6])
def test_copies_average_or_repeat_maps(
    heads: int, sized: Any, make_method: MakeMethod, digits: ResolvedDataset, batch: Batch
) -> None:
    """One head attends by the mean of three maps, six by each of three twice; the last block by the last."""
    pair = Pair(make_method("attn_copy", sized(2, heads), match=MATCH), digits, batch)
    student, given = pair.student.eval(), pair.read()
    seen: list[torch.Tensor] = []
    proj = student.blocks[1].get_submodule("attn.proj")
    handle = proj.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    own = student(batch.pixels, frozenset({"attention/1"}), pair.method.injected(given)).attention[1]
    handle.remove()
    maps = given.attention[3].maps()
    maps = maps.mean(dim=1, keepdim=True) if heads == 1 else maps.repeat_interleave(heads // 3, dim=1)
    torch.testing.assert_close(seen[0], (maps @ own.v).transpose(1, 2).flatten(2), atol=1e-5, rtol=1e-4)
    pair.student.train()
    pair.backward()
    assert all(pair.gradient(block)[:2].abs().max() == 0 for block in range(2))
    assert all(pair.gradient(block)[2].abs().max() > 0 for block in range(2))


@pytest.mark.parametrize("name", ["attn_copy", "attn_distill"])
def test_the_record_says_what_met(name: str, sized: Any, make_method: MakeMethod) -> None:
    """The pairs of blocks and the numbers of heads stand in the notes, called experimental."""
    note = make_method(name, sized(2, 1), match=MATCH).notes()[-1]
    assert note == (
        "experimental match of maps: the teacher's blocks 1 for 0, 3 for 1 of the student's; "
        "its 3 heads for 1"
    )
