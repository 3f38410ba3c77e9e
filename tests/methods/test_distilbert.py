import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cosine
from torch import Tensor

from tests.methods.conftest import MakeCell, MakeMethod, as_teacher, network
from tests.methods.laws import G3_STUDENT, G3_TEACHER, LossLaws, laws_of
from tests.methods.stepping import parts_of, reaches_the_student
from vitkd_bench.contracts import Batch
from vitkd_bench.methods.distilbert import distilbert_loss
from vitkd_bench.methods.kd import kd_loss
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import SIZES, ResolvedDataset

test_the_laws_hold = laws_of({"tokens": LossLaws(distilbert_loss, G3_STUDENT, G3_TEACHER)})


def drawn(*shape: int, seed: int) -> Tensor:
    """Draw tokens in float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_distilbert_has_its_golden_value() -> None:
    """The cosine term of G3."""
    assert distilbert_loss(G3_STUDENT, G3_TEACHER).item() == pytest.approx(0.2144728495, abs=1e-9)


@given(st.integers(1, 3), st.integers(1, 5), st.integers(2, 6), st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_distilbert_is_its_definition(images: int, tokens: int, width: int, seed: int) -> None:
    """The mean of scipy's cosine distance, token by token."""
    s, t = drawn(images, tokens, width, seed=seed), drawn(images, tokens, width, seed=seed + 1000)
    rows = zip(s.flatten(0, 1).numpy(), t.flatten(0, 1).numpy(), strict=True)
    expected = sum(float(cosine(a, b)) for a, b in rows) / (images * tokens)
    assert distilbert_loss(s, t).item() == pytest.approx(expected, abs=1e-10)


@given(st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_distilbert_sees_directions_alone(seed: int) -> None:
    """A positive scale for each token changes nothing, nor one rotation of both sides; of one it does."""
    s, t = drawn(2, 5, 4, seed=seed), drawn(2, 5, 4, seed=seed + 1000)
    scales, turn = 0.1 + drawn(2, 5, 1, seed=seed + 2000).abs(), torch.linalg.qr(drawn(4, 4, seed=seed)).Q
    torch.testing.assert_close(distilbert_loss(scales * s @ turn, t @ turn), distilbert_loss(s, t))
    assert distilbert_loss(-s, s).item() == pytest.approx(2)
    assert distilbert_loss(s @ turn, s).item() > 1e-6


def test_the_three_parts(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """5 KL at temperature 2, 2 label losses and the cosine of the last tokens that both sides have."""
    cell = make_cell("micro/dinov2_reg", "standard")
    cell = make_cell("micro/deit", cell.student)  # registers that the teacher lacks
    assert cell.teacher_architecture is not None
    student = network(cell.student, digits)
    teacher = as_teacher(network(cell.teacher_architecture, digits, seed=3))
    method = make_method("distilbert", cell, weight=3.0)
    found = parts_of(method, student, teacher, batch)
    assert reaches_the_student(found["distilbert"], student)
    ours = student(batch.pixels, frozenset({"tokens/3"}))
    theirs = teacher(batch.pixels, frozenset({"tokens/3", "logits"}))
    registers = cell.student.registers
    assert registers > 0
    kept = torch.cat([ours.tokens[3][:, :1], ours.tokens[3][:, 1 + registers :]], dim=1)
    torch.testing.assert_close(found["distilbert"], 3 * distilbert_loss(kept, theirs.tokens[3]))
    assert ours.logits is not None
    assert theirs.logits is not None
    torch.testing.assert_close(found["logits"], 5 * kd_loss(ours.logits, theirs.logits, 2.0))
    smoothed = torch.nn.functional.cross_entropy(ours.logits, batch.labels, label_smoothing=0.1)
    torch.testing.assert_close(found["labels"], 2 * smoothed)
    assert method.notes() == (
        f"{registers} registers left out of the comparison of tokens: one side has none",
    )


def test_what_does_not_meet_is_refused(make_cell: MakeCell) -> None:
    """Another width, another grid, no head, an absent block."""
    entry = METHODS.get("distilbert")
    shape, settings_ = make_cell().student, entry.method.Config
    for cell, why in (
        (make_cell("micro/deit", shape.with_(size=SIZES["micro_small"])), "widths differ: student 32"),
        (make_cell("micro/deit", shape.with_(patch=1)), "grids of patches differ"),
        (make_cell("micro/mae"), "no classification head"),
    ):
        assert why in (entry.refuses(settings_(), cell) or "")
    assert "beyond the network's 4 blocks" in (
        entry.refuses(settings_.parse({"layers": [7]}), make_cell()) or ""
    )
