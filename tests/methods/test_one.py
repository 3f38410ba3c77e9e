"""ONE: golden values, the gated ensemble against a plain form, and what each part of the loss moves."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.methods.conftest import MakeCell, MakeMethod, network
from tests.methods.laws import G1_STUDENT, G1_TEACHER, LossLaws, laws_of
from vitkd_bench.contracts import Batch, taps
from vitkd_bench.methods.one import NativeEnsemble, one_loss, ramp
from vitkd_bench.networks import ViTNetwork
from vitkd_bench.registry import METHODS, TEACHERS
from vitkd_bench.spec import ResolvedDataset

test_the_laws_hold = laws_of(
    {
        # at equality it is the lift of the target that is left: T^2 sum (p + l) log(1 + l / p), about l K T^2
        "T=3": LossLaws(one_loss, G1_STUDENT, G1_TEACHER, floor_atol=1e-5),
        "T=1": LossLaws(lambda s, t: one_loss(s, t, 1.0), G1_STUDENT, G1_TEACHER, floor_atol=1e-5),
        "one class": LossLaws(one_loss, G1_STUDENT[:, :1], G1_TEACHER[:, :1], floor_atol=1e-5),
    }
)


def test_golden_values() -> None:
    """The distillation of G1 with T as ensemble, and the ramp at epochs 0, 40 and 80 of 300."""
    assert one_loss(G1_STUDENT, G1_TEACHER).item() == pytest.approx(0.1229860012, abs=1e-9)
    assert [ramp(epoch / 300, 80 / 300) for epoch in (0, 40, 80, 200)] == pytest.approx(
        [0.006738, 0.286505, 1, 1], abs=1e-6
    )
    assert ramp(0.0, 0.0) == 1.0


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 1))
def test_the_ramp_rises_to_one(one: float, other: float, length: float) -> None:
    """It never falls and never leaves (0, 1]."""
    first, second = sorted((one, other))
    assert 0 < ramp(first, length) <= ramp(second, length) <= 1


def test_the_target_is_lifted_and_not_normalised() -> None:
    """Sample by sample: T^2 sum (p + 1e-7) log((p + 1e-7) / q), mean over samples."""
    total = 0.0
    for s, t in zip(G1_STUDENT, G1_TEACHER, strict=True):
        p, q = (t / 2).exp() / (t / 2).exp().sum() + 1e-7, (s / 2).exp() / (s / 2).exp().sum()
        total += 4 * sum(float(p[k] * (p[k] / q[k]).log()) for k in range(4)) / 3
    assert one_loss(G1_STUDENT, G1_TEACHER, 2.0).item() == pytest.approx(total, abs=1e-12)


def ensemble(
    make_cell: MakeCell,
    make_method: MakeMethod,
    digits: ResolvedDataset,
    name: str = "micro/deit",
    **settings: object,
) -> tuple[NativeEnsemble, ViTNetwork, list[ViTNetwork]]:
    """A student with two further branches, and the networks that these were taken from, as they were."""
    cell = make_cell(name)
    student, *peers = (network(cell.student, digits, seed=seed).train() for seed in (0, 1, 2))
    whole = [network(cell.student, digits, seed=seed).train() for seed in (1, 2)]
    torch.manual_seed(7)  # of the gate
    method = make_method("one", cell, **settings)
    assert isinstance(method, NativeEnsemble)
    assert method.peers() == 2
    method.meet(peers)
    return method.train(), student, whole


def ends(whole: ViTNetwork, tokens: Tensor, blocks: int) -> Tensor:
    """Run the last blocks of a whole network on tokens, by hand."""
    for block in list(whole.blocks)[-blocks:]:
        tokens = block(tokens)
    pooled = tokens[:, whole.architecture.prefix :].mean(dim=1)
    norm, head = whole.module.get_submodule("fc_norm"), whole.module.get_submodule("head")
    logits: Tensor = head(norm(pooled))
    return logits


@pytest.mark.parametrize(("share", "blocks"), [(1 / 3, 1), (0.5, 2), (0.75, 3)])
def test_the_loss_is_that_of_a_plain_ensemble(
    share: float,
    blocks: int,
    batch: Batch,
    make_cell: MakeCell,
    make_method: MakeMethod,
    digits: ResolvedDataset,
) -> None:
    """Branches are the ends of the peers on the student's stem; gate, ensemble and losses as published."""
    method, student, peers = ensemble(make_cell, make_method, digits, share=share, weight=2.0, ramp=0.0)
    stem = 3 - blocks
    assert method.student_taps() == {taps.tokens(stem)}
    parts = method.step(student, None, batch)
    seen = student(batch.pixels, frozenset({taps.tokens(stem)}))
    assert seen.logits is not None
    logits = [seen.logits, *(ends(peer, seen.tokens[stem], blocks) for peer in peers)]
    linear = method.gate[0]
    assert isinstance(linear, nn.Linear)
    score = linear(seen.tokens[stem][:, 1:].mean(1))
    normed = ((score - score.mean(0)) / (score.var(0, unbiased=False) + 1e-5).sqrt()).relu()
    weights = normed.exp() / normed.exp().sum(1, keepdim=True)
    combined = sum(w[:, None] * each for w, each in zip(weights.T, logits, strict=True))
    assert isinstance(combined, Tensor)
    labels = [
        F.cross_entropy(each, batch.labels, label_smoothing=batch.label_smoothing)
        for each in (*logits, combined)
    ]
    distilled = 2.0 * sum(one_loss(each, combined) for each in logits)
    torch.testing.assert_close(parts["labels"], labels[0])
    torch.testing.assert_close(parts["branches"], labels[1] + labels[2] + labels[3])
    torch.testing.assert_close(parts["one"], distilled, atol=1e-5, rtol=1e-4)


def test_the_distillation_does_not_move_the_gate(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """The ensemble is a fixed target: the gate learns from its own cross-entropy alone."""
    method, student, _ = ensemble(make_cell, make_method, digits, ramp=0.0)
    parts = method.step(student, None, batch)
    parts["one"].backward(retain_graph=True)
    assert all(p.grad is None for p in method.gate.parameters())
    assert all(p.grad is not None for p in (*student.parameters(), *method.branches.parameters()))
    parts["branches"].backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in method.gate[0].parameters())


def test_the_weight_of_the_distillation_follows_the_training(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """At the start of the ramp exp(-5) of it counts."""
    found = {}
    for length in (0.0, 0.5):
        method, student, _ = ensemble(make_cell, make_method, digits, ramp=length)
        found[length] = method.step(student, None, batch)["one"].item()
    assert batch.progress == 0
    assert found[0.5] == pytest.approx(found[0.0] * 0.00673794699, rel=1e-4)


@pytest.mark.parametrize("name", ["micro/deit", "micro/beitv2", "micro/dinov2_reg", "micro/siglip2"])
def test_branches_and_gate_move(
    name: str, batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """Two steps change all that is learned, whatever the components; a branch has no stem of its own."""
    method, student, _ = ensemble(make_cell, make_method, digits, name)
    names = {n.partition(".vit.")[2] for n, _ in method.branches.named_parameters()}
    assert {n.split(".")[0] for n in names} == {"blocks", "fc_norm", "head"}
    assert {n.split(".")[1] for n in names if n.startswith("blocks.")} == {"0"}
    learned = [*student.parameters(), *method.parameters()]
    before = [p.clone() for p in learned]
    optimiser = torch.optim.AdamW(learned, lr=1e-3)
    for _ in range(2):
        optimiser.zero_grad()
        torch.stack(list(method.step(student, None, batch).values())).sum().backward()
        optimiser.step()
    assert not any(torch.equal(a, b) for a, b in zip(before, learned, strict=True))


def test_a_student_with_nothing_to_share_is_refused(make_cell: MakeCell) -> None:
    """A branch must leave a block to the stem."""
    entry = METHODS.get("one")
    base = TEACHERS.get("micro/deit").architecture
    shallow = base.with_(size=base.size.model_copy(update={"depth": 1}))
    why = entry.refuses(entry.method.Config(), make_cell("micro/deit", shallow))
    assert why == "one shares the first blocks among its branches: share 0.333333 leaves none of 1"
    assert entry.refuses(entry.method.Config(), make_cell()) is None
    assert "leaves none of 4" in str(entry.refuses(entry.method.Config.parse({"share": 0.9}), make_cell()))
