from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.methods.conftest import MakeCell, MakeMethod, as_teacher, network
from tests.methods.laws import G3_STUDENT, G3_TEACHER, LossLaws, laws_of
from vitkd_bench.contracts import Batch
from vitkd_bench.methods.manifold import manifold_loss
from vitkd_bench.spec import ResolvedDataset


def double(*shape: int, seed: int = 0) -> Tensor:
    """Draw a float64 tensor."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# with all tokens drawn their order plays no part, so that the loss is a function of its inputs
test_the_laws_hold = laws_of(
    {
        "equal": LossLaws(manifold_loss, G3_STUDENT, G3_TEACHER, least_batch=2),
        "other width": LossLaws(manifold_loss, double(2, 4, 3), double(2, 4, 5, seed=1), least_batch=2),
    }
)

GOLDEN = {"intra": 0.1285993233, "inter": 0.1482233047, "random": 0.2360338271}


@pytest.mark.parametrize("part", GOLDEN)
def test_the_golden_values(part: str) -> None:
    """G3, one part at a time; the random one over all eight tokens."""
    weights = {name: float(name == part) for name in GOLDEN}
    assert manifold_loss(G3_STUDENT, G3_TEACHER, **weights).item() == pytest.approx(GOLDEN[part], abs=1e-9)  # type: ignore[arg-type]
    total = 4 * GOLDEN["intra"] + 0.1 * GOLDEN["inter"] + 0.2 * GOLDEN["random"]
    assert manifold_loss(G3_STUDENT, G3_TEACHER).item() == pytest.approx(total, abs=1e-9)


def test_against_loops() -> None:
    """Cosines of every pair of tokens, one by one."""
    s, t = double(3, 4, 2, seed=1), double(3, 4, 5, seed=2)

    def cosine(x: Tensor, y: Tensor) -> float:
        return (torch.dot(x, y) / (x.norm() * y.norm())).item()

    def mean(pairs: list[tuple[tuple[int, int], tuple[int, int]]]) -> float:
        return sum((cosine(s[a], s[b]) - cosine(t[a], t[b])) ** 2 for a, b in pairs) / len(pairs)

    places = [(b, n) for b in range(3) for n in range(4)]
    intra = mean([(a, b) for a in places for b in places if a[0] == b[0]])
    inter = mean([(a, b) for a in places for b in places if a[1] == b[1]])
    random = mean([(a, b) for a in places for b in places])
    expected = 4 * intra + 0.1 * inter + 0.2 * random
    assert manifold_loss(s, t).item() == pytest.approx(expected, abs=1e-12)


@given(st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_what_it_forgets(seed: int) -> None:
    """A rotation of all tokens and a positive size of each change nothing; so c t Q is zero away from t."""
    s, t = double(3, 4, 3, seed=seed), double(3, 4, 5, seed=seed + 1000)
    rotation = torch.linalg.qr(double(5, 5, seed=seed + 2000))[0]
    sizes = double(3, 4, 1, seed=seed + 3000).exp()
    same = sizes * t @ rotation
    assert manifold_loss(s, same).item() == pytest.approx(manifold_loss(s, t).item(), abs=1e-10)
    assert manifold_loss(same, t).item() == pytest.approx(0, abs=1e-20)


@given(st.integers(0, 999))
@settings(max_examples=15, deadline=None)
def test_what_it_sees(seed: int) -> None:
    """The same order of tokens on both sides changes nothing; on one side, a sign or a shift do."""
    s, t = double(3, 4, 3, seed=seed), double(3, 4, 3, seed=seed + 1000)
    order = torch.randperm(4, generator=torch.Generator().manual_seed(seed))
    value = manifold_loss(s, t).item()
    assert manifold_loss(s[:, order], t[:, order]).item() == pytest.approx(value, abs=1e-12)
    signs = torch.tensor([1.0, -1, 1, 1], dtype=torch.float64).reshape(1, 4, 1)
    for other in (s.roll(1, dims=1), s * signs, s + 1):
        assert manifold_loss(other, t).item() != pytest.approx(value, abs=1e-9)


def test_drawn_tokens_follow_the_global_generator() -> None:
    """Two seeds draw other tokens, one seed the same; both sides draw alike, so equality stays zero."""
    s, t = double(4, 9, 3), double(4, 9, 3, seed=1)
    loss = partial(manifold_loss, intra=0.0, inter=0.0, random=1.0, samples=5)

    def value(seed: int, student: Tensor) -> float:
        torch.manual_seed(seed)
        return loss(student, t).item()

    assert value(1, s) == value(1, s)
    assert value(1, s) != value(2, s)
    assert value(3, t.clone()) == 0


def test_settings_reach_the_loss(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """The method averages over its blocks with its own weights."""
    cell = make_cell("micro/deit", "standard")
    assert cell.teacher_architecture is not None
    student = network(cell.student, digits)
    teacher = as_teacher(network(cell.teacher_architecture, digits, seed=4))
    config = {"intra": 2.0, "inter": 0.5, "random": 0.0}
    method = make_method("manifold", cell, layers=[0, 2], **config)
    seen = teacher(batch.pixels, method.teacher_taps())
    own = student(batch.pixels, method.student_taps())
    expected = [manifold_loss(own.tokens[i][:, 1:], seen.tokens[i][:, 1:], **config).item() for i in (0, 2)]  # type: ignore[arg-type]
    assert method.loss(own, seen, batch)["manifold"].item() == pytest.approx(sum(expected) / 2, rel=1e-5)
