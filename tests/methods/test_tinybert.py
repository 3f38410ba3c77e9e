import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.methods.conftest import MakeCell, MakeMethod, as_teacher, network
from tests.methods.laws import G3_STUDENT, G3_TEACHER, LossLaws, laws_of
from tests.methods.stepping import parts_of, reaches_the_student
from tests.methods.two_steps import two_steps
from vitkd_bench.contracts import Batch
from vitkd_bench.methods.kd import kd_loss
from vitkd_bench.methods.tinybert import TinyBERT, tinybert_loss
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import SIZES, ResolvedDataset


def with_scores(student: Tensor, teacher: Tensor) -> Tensor:
    """The loss of tokens, and of their products as scores."""
    return tinybert_loss(student, teacher, student @ student.mT, teacher @ teacher.mT)


test_the_laws_hold = laws_of(
    {
        "hidden": LossLaws(tinybert_loss, G3_STUDENT, G3_TEACHER),
        "with scores": LossLaws(with_scores, G3_STUDENT, G3_TEACHER),
    }
)


def drawn(*shape: int, seed: int) -> Tensor:
    """Draw tensors in float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_tinybert_is_its_definition(seed: int) -> None:
    """Two means of squares, by numpy; scores from -100 down, minus infinity too, count as zero."""
    s, t = drawn(2, 4, 5, seed=seed), drawn(2, 4, 5, seed=seed + 1)
    a, b = 50 * drawn(2, 3, 4, 4, seed=seed + 2), 50 * drawn(2, 3, 4, 4, seed=seed + 3)
    a[0, 0, 0, 0], b[0, 0, 0, 0], a[1, 0, 0, 0] = -torch.inf, -torch.inf, -100
    hidden = np.mean((s.numpy() - t.numpy()) ** 2)
    x, y = (np.where(scores.numpy() <= -100, 0, scores.numpy()) for scores in (a, b))
    assert tinybert_loss(s, t).item() == pytest.approx(hidden)
    assert tinybert_loss(s, t, a, b).item() == pytest.approx(hidden + np.mean((x - y) ** 2))


def test_a_shift_of_scores_is_seen() -> None:
    """A constant added to each row leaves the attention map as it was, and changes the loss by its square."""
    scores = drawn(2, 3, 4, 4, seed=1)
    shifted = tinybert_loss(G3_STUDENT, G3_STUDENT, scores + 2, scores)
    assert shifted.item() == pytest.approx(4)


def test_the_projector_is_shared_and_moves(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """One linear map for all blocks, trained from the first step, between unequal widths and depths."""
    cell = make_cell("micro/deit", make_cell().student.with_(size=SIZES["micro_large"]))
    assert cell.teacher_architecture is not None
    student = network(cell.student, digits)
    teacher = as_teacher(network(cell.teacher_architecture, digits, seed=3))
    method = make_method("tinybert", cell, scores=False)
    assert isinstance(method, TinyBERT)
    assert {name for name, _ in method.named_parameters()} == {"projector.weight", "projector.bias"}
    assert method.student_taps() == {f"tokens/{i}" for i in range(6)}
    assert method.teacher_taps() == {"logits", *(f"tokens/{i}" for i in (0, 1, 2, 3))}
    assert reaches_the_student(parts_of(method, student, teacher, batch)["tinybert"], student)
    assert two_steps(method, student, teacher, batch).still == set()


def test_the_parts_are_those_of_the_networks(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """Sum over blocks of both squared errors, and the KL of the logits in place of the labels."""
    cell = make_cell("micro/deit", make_cell().student.with_(class_token=False))
    assert cell.teacher_architecture is not None
    student = network(cell.student, digits)
    teacher = as_teacher(network(cell.teacher_architecture, digits, seed=3))
    method = make_method("tinybert", cell, layers="last:2", weight=0.5)
    assert isinstance(method, TinyBERT)
    found = parts_of(method, student, teacher, batch)
    ours = student(batch.pixels, method.student_taps())
    theirs = teacher(batch.pixels, method.teacher_taps())
    expected = torch.zeros(())
    for i in (2, 3):
        guess = method.projector(ours.tokens[i])
        expected = expected + (guess - theirs.tokens[i][:, 1:]).square().mean()
        scores = theirs.attention[i].logits()[:, :, 1:, 1:]
        expected = expected + (ours.attention[i].logits() - scores).square().mean()
    torch.testing.assert_close(found["tinybert"], 0.5 * expected)
    assert ours.logits is not None
    assert theirs.logits is not None
    torch.testing.assert_close(found["kd"], kd_loss(ours.logits, theirs.logits))
    assert found["labels"].item() == 0
    assert method.notes() == ("the class token left out of the comparison of tokens: one side has none",)


def test_two_phases(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """With `blocks_first` blocks alone are trained on for that share, logits and labels alone afterwards."""
    cell = make_cell()
    student, teacher = network(cell.student, digits), as_teacher(network(cell.student, digits, seed=3))
    method = make_method("tinybert", cell, blocks_first=0.5)
    for progress, parts in ((0.0, {"tinybert"}), (0.49, {"tinybert"}), (0.5, {"labels", "kd"})):
        at = dataclasses.replace(batch, progress=progress)
        assert parts_of(method, student, teacher, at).keys() == parts


def test_heads_that_differ_are_refused_unless_scores_are_left_out(make_cell: MakeCell) -> None:
    """The refusal names the setting that helps; a headless teacher and another grid are refused too."""
    entry = METHODS.get("tinybert")
    cell = make_cell("micro/deit", make_cell().student.with_(size=SIZES["micro_small"]))
    assert entry.refuses(entry.method.Config(), cell) == (
        "heads differ: student 2, teacher 3; tinybert compares scores head by head, "
        "scores: false leaves them out"
    )
    assert entry.refuses(entry.method.Config.parse({"scores": False}), cell) is None
    assert "no classification head" in (entry.refuses(entry.method.Config(), make_cell("micro/mae")) or "")
    finer = make_cell("micro/deit", make_cell().student.with_(patch=1))
    assert "grids of patches differ" in (entry.refuses(entry.method.Config(), finer) or "")


def test_the_projector_is_drawn_from_the_global_generator(
    make_cell: MakeCell, make_method: MakeMethod
) -> None:
    """Equal streams give equal weights, so that a run can be repeated."""
    drawn_twice = []
    for _ in range(2):
        torch.manual_seed(5)
        method = make_method("tinybert", make_cell())
        assert isinstance(method, nn.Module)
        drawn_twice.append(method.state_dict()["projector.weight"])
    assert torch.equal(*drawn_twice)
