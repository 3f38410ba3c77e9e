"""Mutual learning: its golden values, what passes between the networks, and what does not."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.methods.conftest import MakeCell, MakeMethod, network
from tests.methods.laws import G1_LABELS, G1_STUDENT, G1_TEACHER, LossLaws, laws_of
from vitkd_bench.contracts import Batch, CellFacts, Method
from vitkd_bench.methods.dml import dml_loss
from vitkd_bench.networks import ViTNetwork
from vitkd_bench.spec import ResolvedDataset


def from_one(student: Tensor, peer: Tensor) -> Tensor:
    """The term of a network with a single peer."""
    return dml_loss(student, [peer])


test_the_laws_hold = laws_of(
    {
        "one peer": LossLaws(from_one, G1_STUDENT, G1_TEACHER),
        "two peers": LossLaws(lambda s, t: dml_loss(s, [t, t.flip(0)]), G1_STUDENT, G1_TEACHER, floor=None),
        "one class": LossLaws(from_one, G1_STUDENT[:, :1], G1_TEACHER[:, :1]),
    }
)


def test_golden_values() -> None:
    """With the labels, the losses of the two networks of G1."""
    for own, other, golden in (
        (G1_STUDENT, G1_TEACHER, 0.9949228380),
        (G1_TEACHER, G1_STUDENT, 0.9548551391),
    ):
        total = F.cross_entropy(own, G1_LABELS) + dml_loss(own, [other])
        assert total.item() == pytest.approx(golden, abs=1e-9)


@given(st.integers(1, 4), st.integers(2, 5), st.integers(1, 3), st.integers(0, 99))
def test_it_is_the_mean_divergence_from_the_peers(batch: int, classes: int, peers: int, seed: int) -> None:
    """Sample by sample and class by class: sum p_j log(p_j / p_i), mean over samples and peers."""
    random = torch.Generator().manual_seed(seed)
    own, *others = (
        3 * torch.randn(batch, classes, generator=random, dtype=torch.float64) for _ in range(peers + 1)
    )
    total = 0.0
    for other in others:
        for b in range(batch):
            p, q = other[b].exp() / other[b].exp().sum(), own[b].exp() / own[b].exp().sum()
            total += sum(float(p[k] * (p[k] / q[k]).log()) for k in range(classes)) / (batch * peers)
    assert dml_loss(own, others).item() == pytest.approx(total, abs=1e-10)


def test_without_peers_there_is_nothing_to_learn_from() -> None:
    """An empty list is an error, not a zero."""
    with pytest.raises(ValueError, match="a peer at least"):
        dml_loss(G1_STUDENT, [])


def together(
    make_cell: MakeCell,
    make_method: MakeMethod,
    digits: ResolvedDataset,
    seeds: list[int],
    **settings: object,
) -> tuple[CellFacts, Method, ViTNetwork, list[ViTNetwork]]:
    """A student and its peers, drawn from these seeds, in training mode."""
    cell = make_cell(None, "standard")
    student, *peers = (network(cell.student, digits, seed=seed).train() for seed in seeds)
    method = make_method("dml", cell, networks=len(seeds), **settings)
    assert method.peers() == len(peers)
    method.meet(peers)
    return cell, method, student, peers


def test_identical_peers_teach_nothing(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """Networks of equal weights: the mutual term is zero and every gradient is that of the labels alone."""
    cell, method, student, peers = together(make_cell, make_method, digits, [3, 3, 3])
    parts = method.step(student, None, batch)
    assert parts["dml"].item() == pytest.approx(0, abs=1e-6)
    torch.stack(list(parts.values())).sum().backward()
    alone = network(cell.student, digits, seed=3).train()
    make_method("none", cell).step(alone, None, batch)["labels"].backward()
    for one in (student, *peers):
        for mine, plain in zip(one.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, plain.grad, atol=1e-6, rtol=1e-4)


def test_no_gradient_crosses_between_networks(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """The student's parts move the student alone, the peers' part every peer and not the student."""
    _, method, student, peers = together(make_cell, make_method, digits, [0, 1, 2])
    parts = method.step(student, None, batch)
    (parts["labels"] + parts["dml"]).backward(retain_graph=True)
    assert all(p.grad is not None for p in student.parameters())
    assert all(p.grad is None for peer in peers for p in peer.parameters())
    own = [p.grad.clone() for p in student.parameters() if p.grad is not None]
    parts["peers"].backward()
    assert all(
        torch.equal(p.grad, g) for p, g in zip(student.parameters(), own, strict=True) if p.grad is not None
    )
    assert all(p.grad is not None for peer in peers for p in peer.parameters())


def test_each_network_has_the_published_loss(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """Labels and weighted mean divergence of every network; peers count in full, whatever their number."""
    _, method, student, peers = together(make_cell, make_method, digits, [0, 1, 2], weight=0.5)
    parts = method.step(student, None, batch)
    logits = [n(batch.pixels).logits for n in (student, *peers)]
    given = [x.detach().double() for x in logits if x is not None]
    whole = [
        F.cross_entropy(own, batch.labels, label_smoothing=batch.label_smoothing)
        + 0.5 * from_mean(own, [x for x in given if x is not own])
        for own in given
    ]
    assert (parts["labels"] + parts["dml"]).item() == pytest.approx(float(whole[0]), rel=1e-5)
    assert parts["peers"].item() == pytest.approx(float(whole[1] + whole[2]), rel=1e-5)


def from_mean(own: Tensor, others: list[Tensor]) -> Tensor:
    """Cross-entropy less entropy, mean over the others."""
    cross = [-(x.softmax(1) * (own.log_softmax(1) - x.log_softmax(1))).sum(1).mean() for x in others]
    return torch.stack(cross).mean()


def test_all_networks_move_and_the_peers_are_the_methods(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """Two steps change every weight of every network; the peers are the method's, not the student's."""
    _, method, student, peers = together(make_cell, make_method, digits, [0, 1])
    assert isinstance(method, torch.nn.Module)
    assert {id(p) for p in method.parameters()} == {id(p) for p in peers[0].parameters()}
    before = [p.clone() for p in (*student.parameters(), *method.parameters())]
    optimiser = torch.optim.AdamW([*student.parameters(), *method.parameters()], lr=1e-3)
    for _ in range(2):
        optimiser.zero_grad()
        torch.stack(list(method.step(student, None, batch).values())).sum().backward()
        optimiser.step()
    after = [*student.parameters(), *method.parameters()]
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert method.notes() == ("trained beside 1 peers, which are not kept",)
