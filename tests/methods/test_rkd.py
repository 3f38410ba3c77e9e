from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from tests.methods.conftest import MakeCell, MakeMethod, as_teacher, network
from tests.methods.laws import G2_STUDENT, G2_TEACHER, LossLaws, laws_of
from tests.methods.stepping import parts_of, reaches_the_student
from vitkd_bench.contracts import Batch, Features
from vitkd_bench.methods.rkd import rkd_angle_loss, rkd_distance_loss, rkd_loss
from vitkd_bench.spec import ResolvedDataset

CLOUD = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
OTHER = torch.randn(5, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

test_the_laws_hold = laws_of(
    {
        "published": LossLaws(rkd_loss, G2_STUDENT, G2_TEACHER, least_batch=2),
        "equal widths": LossLaws(rkd_loss, CLOUD, OTHER, least_batch=2),
        "distances": LossLaws(partial(rkd_loss, angle=0.0), CLOUD, OTHER, least_batch=2),
        "angles": LossLaws(partial(rkd_loss, distance=0.0), CLOUD, OTHER, least_batch=2),
        "two images": LossLaws(rkd_loss, CLOUD[:2], OTHER[:2], least_batch=2),
    }
)


def test_rkd_has_its_golden_values() -> None:
    """Both terms and their published sum on G2."""
    assert rkd_distance_loss(G2_STUDENT, G2_TEACHER).item() == pytest.approx(0.0399657535, abs=1e-9)
    assert rkd_angle_loss(G2_STUDENT, G2_TEACHER).item() == pytest.approx(0.0929418808, abs=1e-9)
    assert rkd_loss(G2_STUDENT, G2_TEACHER).item() == pytest.approx(5.6462378754, abs=1e-9)


def smooth_l1(difference: float) -> float:
    """Half a square inside one, a straight line outside."""
    return difference**2 / 2 if abs(difference) < 1 else abs(difference) - 0.5


def plain(s: NDArray[np.float64], t: NDArray[np.float64]) -> tuple[float, float]:
    """Both terms by loops over pairs and triples of images."""
    n = len(s)

    def distances(x: NDArray[np.float64]) -> dict[tuple[int, int], float]:
        found = {(i, j): float(np.sqrt(((x[i] - x[j]) ** 2).sum())) for i, j in product(range(n), repeat=2)}
        apart = [d for d in found.values() if d > 0]
        return {pair: d / (sum(apart) / len(apart)) for pair, d in found.items()}

    def cosine(x: NDArray[np.float64], i: int, j: int, k: int) -> float:
        a, b = x[j] - x[i], x[k] - x[i]
        lengths = np.linalg.norm(a) * np.linalg.norm(b)
        return float(a @ b / lengths) if lengths > 0 else 0.0

    of_s, of_t = distances(s), distances(t)
    pairs = [smooth_l1(of_s[pair] - of_t[pair]) for pair in of_s]
    triples = [smooth_l1(cosine(s, *ijk) - cosine(t, *ijk)) for ijk in product(range(n), repeat=3)]
    return sum(pairs) / n**2, sum(triples) / n**3


def cloud(images: int, width: int, seed: int) -> Tensor:
    """Draw points of deviation 3, so that some differences pass the bend of the smooth L1."""
    return 3 * torch.randn(images, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(st.integers(3, 6), st.integers(1, 5), st.integers(1, 5), st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_rkd_is_its_definition(images: int, ours: int, theirs: int, seed: int) -> None:
    """Both terms equal loops over pairs and triples, for any widths."""
    s, t = cloud(images, ours, seed), cloud(images, theirs, seed + 1000)
    s[-1] = s[0]  # images may coincide
    distance, angle = plain(s.numpy(), t.numpy())
    assert rkd_distance_loss(s, t).item() == pytest.approx(distance, abs=1e-10)
    assert rkd_angle_loss(s, t).item() == pytest.approx(angle, abs=1e-10)


@given(st.floats(0.1, 10), st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_rkd_sees_shapes_alone(scale: float, seed: int) -> None:
    """Moving, turning and scaling either side changes nothing; scaling one image does."""
    s, t = cloud(5, 4, seed), cloud(5, 4, seed + 1000)
    turn = torch.linalg.qr(cloud(4, 4, seed + 2000)).Q
    moved = scale * s @ turn + cloud(1, 4, seed + 3000)
    torch.testing.assert_close(rkd_loss(moved, t), rkd_loss(s, t), atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(rkd_loss(t, moved), rkd_loss(t, s), atol=1e-9, rtol=1e-9)
    assert rkd_loss(moved, s).item() == pytest.approx(0, abs=1e-12)
    bent = s * torch.tensor([3.0, 1, 1, 1, 1], dtype=torch.float64).unsqueeze(1)
    assert rkd_loss(bent, s).item() > 1e-4


def test_coinciding_images_have_finite_gradients() -> None:
    """A student that maps several or all images to one point can still be trained."""
    for points in (CLOUD[[0, 0, 1, 1, 2]], torch.ones(5, 3)):
        student = points.float().requires_grad_()
        (gradient,) = torch.autograd.grad(rkd_loss(student, OTHER.float()), student)
        assert gradient.isfinite().all()
        assert gradient.abs().max() < 1e3


def test_the_method_weighs_its_terms(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """Weights reach the loss, of a large batch a part has its angles compared, and the student learns."""
    cell = make_cell()
    student, teacher = network(cell.student, digits), as_teacher(network(cell.student, digits, seed=3))
    found = parts_of(make_method("rkd", cell, weight=2.0), student, teacher, batch)
    assert reaches_the_student(found["rkd"], student)
    ours = student(batch.pixels).pooled
    theirs = teacher(batch.pixels, frozenset({"pooled"})).pooled
    assert ours is not None
    assert theirs is not None
    torch.testing.assert_close(found["rkd"], 2 * rkd_loss(ours, theirs))
    both = Features(logits=torch.zeros(48, 10), pooled=ours), Features(pooled=theirs)
    few = make_method("rkd", cell, distance=0.0, angle_samples=10).loss(*both, batch)
    torch.testing.assert_close(few["rkd"], 50 * rkd_angle_loss(ours[:10], theirs[:10]))
