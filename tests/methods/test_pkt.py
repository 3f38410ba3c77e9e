import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import entropy
from torch import Tensor

from tests.methods.conftest import MakeCell, MakeMethod, as_teacher, network
from tests.methods.laws import G2_STUDENT, G2_TEACHER, G3_STUDENT, G3_TEACHER, LossLaws, laws_of
from tests.methods.stepping import parts_of, reaches_the_student
from vitkd_bench.contracts import Batch
from vitkd_bench.methods.pkt import pkt_loss
from vitkd_bench.spec import ResolvedDataset

test_the_laws_hold = laws_of(
    {
        "vectors": LossLaws(pkt_loss, G2_STUDENT, G2_TEACHER, least_batch=2),
        "tokens": LossLaws(pkt_loss, G3_STUDENT, G3_TEACHER, least_batch=2),
    }
)


def drawn(*shape: int, seed: int) -> Tensor:
    """Draw features in float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_pkt_has_its_golden_values() -> None:
    """G2: the mean over images, and the released mean over pairs, three times less."""
    assert pkt_loss(G2_STUDENT, G2_TEACHER).item() == pytest.approx(0.0063874070, abs=1e-9)
    assert pkt_loss(G2_STUDENT, G2_TEACHER).item() / 3 == pytest.approx(0.0021291357, abs=1e-9)


@given(st.integers(2, 8), st.integers(1, 5), st.integers(2, 5), st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_pkt_is_its_definition(images: int, ours: int, theirs: int, seed: int) -> None:
    """Equal to scipy's relative entropy of rows of scipy's cosine kernel, up to the added eps."""
    s, t = drawn(images, ours + 1, seed=seed), drawn(images, theirs, seed=seed + 1000)
    q, p = (1 - cdist(x, x, "cosine") / 2 for x in (s.numpy(), t.numpy()))
    expected = float(np.mean([entropy(a, b) for a, b in zip(p, q, strict=True)]))  # scipy normalises rows
    assert pkt_loss(s, t, eps=0.0).item() == pytest.approx(expected, abs=1e-10)
    assert pkt_loss(s, t).item() == pytest.approx(expected, rel=1e-2, abs=1e-5)


@given(st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_pkt_sees_directions_alone(seed: int) -> None:
    """A rotation, and a positive scale for each image, change nothing; a shift does."""
    s, t = drawn(5, 4, seed=seed), drawn(5, 4, seed=seed + 1000)
    scales = 0.1 + drawn(5, 1, seed=seed + 2000).abs()
    turned = scales * s @ torch.linalg.qr(drawn(4, 4, seed=seed + 3000)).Q
    torch.testing.assert_close(pkt_loss(turned, t), pkt_loss(s, t), atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(pkt_loss(t, turned), pkt_loss(t, s), atol=1e-12, rtol=1e-9)
    assert pkt_loss(s + 1, s).item() > 1e-6


def test_opposite_and_zero_vectors_are_no_infinity() -> None:
    """A probability of nothing, which the teacher holds likely, costs much but no infinity."""
    student = torch.cat([torch.ones(1, 333), -torch.ones(1, 333), torch.zeros(1, 333)]).requires_grad_()
    value = pkt_loss(student, torch.ones(3, 2))
    (gradient,) = torch.autograd.grad(value, student)
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert value > 1


def test_the_method_reads_what_the_head_reads(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """By default one comparison of pooled vectors; over blocks their sum."""
    cell = make_cell()
    student, teacher = network(cell.student, digits), as_teacher(network(cell.student, digits, seed=3))
    found = parts_of(make_method("pkt", cell), student, teacher, batch)["pkt"]
    assert reaches_the_student(found, student)
    ours = student(batch.pixels).pooled
    theirs = teacher(batch.pixels, frozenset({"pooled"})).pooled
    assert ours is not None
    assert theirs is not None
    torch.testing.assert_close(found, 470 * pkt_loss(ours, theirs))
    single = [parts_of(make_method("pkt", cell, vectors=[i]), student, teacher, batch)["pkt"] for i in (0, 3)]
    both = parts_of(make_method("pkt", cell, vectors=[0, 3]), student, teacher, batch)["pkt"]
    torch.testing.assert_close(both, single[0] + single[1])
