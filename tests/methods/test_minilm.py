import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr, softmax
from torch import Tensor

from tests.methods.conftest import MakeCell, MakeMethod, as_teacher, network
from tests.methods.laws import G3_STUDENT, G3_TEACHER, LossLaws, laws_of
from tests.methods.stepping import parts_of, reaches_the_student
from vitkd_bench.contracts import Batch
from vitkd_bench.methods.minilm import minilm_loss
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import SIZES, ResolvedDataset

Q_STUDENT = torch.tensor([[[1, 0], [0, 1], [1, 1]]], dtype=torch.float64)
Q_TEACHER = torch.tensor([[[1, 0, 0, 0], [0, 1, 0, 1], [1, 1, 0, 0]]], dtype=torch.float64)

test_the_laws_hold = laws_of(
    {
        "one head": LossLaws(partial(minilm_loss, heads=1), G3_STUDENT, G3_TEACHER),
        "two heads": LossLaws(partial(minilm_loss, heads=2), G3_STUDENT, G3_TEACHER),
        "unequal widths": LossLaws(partial(minilm_loss, heads=2), Q_STUDENT, Q_TEACHER),
    }
)


def drawn(*shape: int, seed: int) -> Tensor:
    """Draw vectors in float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("heads", "golden"), [(1, 0.0113663329), (2, 0.0490529484)])
def test_minilm_has_its_golden_values(heads: int, golden: float) -> None:
    """Three tokens of width 2 under width 4, in one relation head and in two."""
    assert minilm_loss(Q_STUDENT, Q_TEACHER, heads).item() == pytest.approx(golden, abs=1e-9)


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_minilm_is_its_definition(images: int, tokens: int, heads: int, seed: int) -> None:
    """Image by image, head by head, row by row."""
    s, t = drawn(images, tokens, 2 * heads, seed=seed), drawn(images, tokens, 3 * heads, seed=seed + 1000)
    rows = []
    for b in range(images):
        for h in range(heads):
            x, y = s[b, :, 2 * h : 2 * h + 2].numpy(), t[b, :, 3 * h : 3 * h + 3].numpy()
            for i in range(tokens):
                q, p = softmax(x @ x[i] / np.sqrt(2)), softmax(y @ y[i] / np.sqrt(3))
                rows.append(rel_entr(p, q).sum())
    assert minilm_loss(s, t, heads).item() == pytest.approx(float(np.mean(rows)), abs=1e-10)


@given(st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_minilm_sees_relations_within_a_head(seed: int) -> None:
    """A rotation inside each relation head changes nothing; channels exchanged between heads do."""
    s, t = drawn(2, 5, 6, seed=seed), drawn(2, 5, 6, seed=seed + 1000)
    blocks = [torch.linalg.qr(drawn(3, 3, seed=seed + n)).Q for n in (2000, 3000)]
    turned = s @ torch.block_diag(*blocks)
    torch.testing.assert_close(minilm_loss(turned, t, 2), minilm_loss(s, t, 2), atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(minilm_loss(t, turned, 2), minilm_loss(t, s, 2), atol=1e-12, rtol=1e-9)
    exchanged = s[..., [3, 1, 2, 0, 4, 5]]
    assert minilm_loss(exchanged, s, 2).item() > 1e-6
    assert minilm_loss(exchanged, s, 1).item() == pytest.approx(0, abs=1e-12)


def test_heads_must_divide_the_widths() -> None:
    """Three heads over a width of two, and tokens of unequal number, are refused with both shapes."""
    with pytest.raises(ValueError, match="3 relation heads over"):
        minilm_loss(Q_STUDENT, Q_TEACHER, 3)
    with pytest.raises(ValueError, match="tokens must be as many"):
        minilm_loss(Q_STUDENT[:, :2], Q_TEACHER, 1)


def test_the_last_block_learns_from_the_chosen_one(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """Queries, keys and values of two networks that differ in all but the grid, as attention has them."""
    shape = make_cell().student.with_(size=SIZES["micro_large"], class_token=False, registers=2)
    cell = make_cell("micro/deit", shape)
    assert cell.teacher_architecture is not None
    student = network(cell.student, digits)
    teacher = as_teacher(network(cell.teacher_architecture, digits, seed=3))
    method = make_method("minilm", cell, relation_heads=4, teacher_depth=0.75, weight=2.0)
    assert method.teacher_taps() == {"attention/2"}
    found = parts_of(method, student, teacher, batch)["minilm"]
    assert reaches_the_student(found, student)
    ours = student(batch.pixels, frozenset({"attention/5"})).attention[5]
    theirs = teacher(batch.pixels, frozenset({"attention/2"})).attention[2]
    expected = []
    for x, y in ((ours.q, theirs.q), (ours.k, theirs.k), (ours.v, theirs.v)):
        s = torch.cat([x[:, head, 2:] for head in range(x.shape[1])], dim=-1)
        t = torch.cat([y[:, head, 1:] for head in range(y.shape[1])], dim=-1)
        expected.append(minilm_loss(s, t, 4))
    torch.testing.assert_close(found, 2 * torch.stack(expected).mean())
    assert "the class token and 2 registers left out" in method.notes()[0]
    values = make_method("minilm", cell, relation_heads=4, teacher_depth=0.75, relations="v")
    torch.testing.assert_close(parts_of(values, student, teacher, batch)["minilm"], expected[2])


def test_the_class_token_is_a_choice(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """With `tokens: patches` the class token's vectors play no part; by default they do."""
    cell = make_cell()
    student, teacher = network(cell.student, digits), as_teacher(network(cell.student, digits, seed=3))
    ours = student(batch.pixels, frozenset({"attention/3"}))
    theirs = teacher(batch.pixels, frozenset({"attention/3"}))
    call = ours.attention[3]
    at_class_token = torch.zeros_like(call.q).index_fill(2, torch.tensor([0]), 1.0)
    moved = dataclasses.replace(ours, attention={3: dataclasses.replace(call, q=call.q + at_class_token)})
    for tokens, seen in (("all", True), ("patches", False)):
        method = make_method("minilm", cell, tokens=tokens)
        before, after = (method.loss(each, theirs, batch)["minilm"].item() for each in (ours, moved))
        assert (abs(after - before) > 1e-4) == seen
        assert seen or after == before


def test_what_cannot_be_cut_is_refused(make_cell: MakeCell) -> None:
    """Relation heads that divide not both widths, with a number that would; and another grid."""
    entry = METHODS.get("minilm")
    cell = make_cell("micro/deit", make_cell().student.with_(size=SIZES["micro_small"]))
    assert entry.refuses(entry.method.Config(), cell) == (
        "3 relation heads do not divide the widths: student 32, teacher 48; relation_heads: 2 would"
    )
    assert entry.refuses(entry.method.Config.parse({"relation_heads": 16}), cell) is None
    finer = make_cell("micro/deit", make_cell().student.with_(patch=1))
    assert "grids of patches differ" in (entry.refuses(entry.method.Config(), finer) or "")
