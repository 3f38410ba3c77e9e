import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.methods.conftest import MakeCell, MakeMethod, as_teacher, network
from tests.methods.laws import G2_STUDENT, G2_TEACHER, G3_STUDENT, G3_TEACHER, LossLaws, laws_of
from tests.methods.stepping import parts_of, reaches_the_student
from vitkd_bench.contracts import Batch
from vitkd_bench.methods.sp import sp_loss
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import SIZES, BadInputError, ResolvedDataset

test_the_laws_hold = laws_of(
    {
        "vectors": LossLaws(sp_loss, G2_STUDENT, G2_TEACHER, least_batch=2),
        "tokens": LossLaws(sp_loss, G3_STUDENT, G3_TEACHER, least_batch=2),
    }
)


def drawn(*shape: int, seed: int) -> Tensor:
    """Draw features in float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_sp_has_its_golden_value() -> None:
    """G2, of unequal widths."""
    assert sp_loss(G2_STUDENT, G2_TEACHER).item() == pytest.approx(0.0442897410, abs=1e-9)


def plain(s: Tensor, t: Tensor) -> float:
    """Row by row, entry by entry."""
    total = 0.0
    for i in range(len(s)):
        rows = []
        for side in (s, t):
            products = [float((side[i] * side[j]).sum()) for j in range(len(side))]
            length = sum(p * p for p in products) ** 0.5
            rows.append([p / length for p in products])
        total += sum((a - b) ** 2 for a, b in zip(*rows, strict=True))
    return total / len(s) ** 2


@given(st.integers(2, 6), st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_sp_is_its_definition(images: int, seed: int) -> None:
    """Equal to loops over entries, for tokens of unequal number and width, and never above 4 / B."""
    s, t = drawn(images, 4, 3, seed=seed), drawn(images, 9, 2, seed=seed + 1000)
    assert sp_loss(s, t).item() == pytest.approx(plain(s, t), abs=1e-12)
    assert sp_loss(s, t).item() <= 4 / images


@given(st.floats(0.1, 10), st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_sp_sees_similarities_alone(scale: float, seed: int) -> None:
    """A rotation with one scale changes nothing; a shift, or a scale of one image, does."""
    s, t = drawn(5, 4, seed=seed), drawn(5, 4, seed=seed + 1000)
    turned = scale * s @ torch.linalg.qr(drawn(4, 4, seed=seed + 2000)).Q
    torch.testing.assert_close(sp_loss(turned, t), sp_loss(s, t), atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(sp_loss(t, turned), sp_loss(t, s), atol=1e-12, rtol=1e-9)
    assert sp_loss(s + 1, s).item() > 1e-6
    assert sp_loss(s * torch.tensor([[5.0], [1], [1], [1], [1]]), s).item() > 1e-6


def test_the_weight_goes_with_the_batch(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """3000 at 64 images is 2250 at 48; the last tokens of a smaller student are compared, patches alone."""
    size = SIZES["micro_small"]
    cell = make_cell("micro/deit", make_cell().student.with_(size=size, class_token=False))
    assert cell.teacher_architecture is not None
    student = network(cell.student, digits)
    teacher = as_teacher(network(cell.teacher_architecture, digits, seed=3))
    found = parts_of(make_method("sp", cell), student, teacher, batch)
    assert reaches_the_student(found["sp"], student)
    ours = student(batch.pixels, frozenset({"tokens/2"})).tokens[2]
    theirs = teacher(batch.pixels, frozenset({"tokens/3"})).tokens[3][:, 1:]
    torch.testing.assert_close(found["sp"], 2250 * sp_loss(ours, theirs))


def test_the_vectors_are_named_when_the_suite_is_read(make_cell: MakeCell, make_method: MakeMethod) -> None:
    """`pooled` and blocks are settings, other words are refused by field, absent blocks by plan."""
    entry = METHODS.get("sp")
    assert make_method("sp", make_cell(), vectors="pooled").teacher_taps() == {"pooled"}
    assert make_method("sp", make_cell(), vectors=[0, 2]).student_taps() == {"tokens/0", "tokens/2"}
    assert entry.method.Config.parse({"vectors": "last:1"}).declared() == {}
    with pytest.raises(
        BadInputError, match=r"vectors: 'pooled' or blocks: expected 'all', 'first:k', 'last:k'.*got 'pool'"
    ):
        entry.method.Config.parse({"vectors": "pool"})
    beyond = entry.method.Config.parse({"vectors": "last:9"})
    assert "last:9 reach beyond the network's 4 blocks" in (entry.refuses(beyond, make_cell()) or "")
    assert entry.refuses(entry.method.Config(), make_cell(None)) == "sp needs a teacher"
