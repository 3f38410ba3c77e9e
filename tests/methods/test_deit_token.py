from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp, softmax
from torch import Tensor

from tests.methods.conftest import MakeCell, MakeMethod, network
from tests.methods.laws import G1_LABELS, G1_STUDENT, G1_TEACHER, LossLaws, laws_of
from vitkd_bench.contracts import Batch, CellFacts, Features
from vitkd_bench.methods.deit_token import DistillationTokenMethod, deit_token_loss, fused
from vitkd_bench.methods.none import none_loss
from vitkd_bench.networks import ViTNetwork
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import ResolvedDataset

test_the_laws_hold = laws_of(
    {
        # no floor at equality: a student surer than its teacher loses less
        "plain": LossLaws(deit_token_loss, G1_STUDENT, G1_TEACHER, floor=None),
        "one class": LossLaws(deit_token_loss, G1_STUDENT[:, :1], G1_TEACHER[:, :1]),
    }
)
TEACHER = Features(logits=torch.randn(48, 10, generator=torch.Generator().manual_seed(4)))


def drawn(*shape: int, seed: int) -> Tensor:
    """Draw logits of deviation 3 in float64."""
    return 3 * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def given_token(
    cell: CellFacts, digits: ResolvedDataset, make_method: MakeMethod, **settings_: Any
) -> tuple[DistillationTokenMethod, ViTNetwork]:
    """Make the method and a student that has taken its token, not yet trained."""
    torch.manual_seed(1)
    method = make_method("deit_token", cell, **settings_)
    assert isinstance(method, DistillationTokenMethod)
    student = network(cell.student, digits)
    method.fit(student, None, [])
    return method, student


def test_it_has_its_golden_value() -> None:
    """Where both heads say the same of G1, half and half is hard distillation's golden value."""
    total = (none_loss(G1_STUDENT, G1_LABELS) + deit_token_loss(G1_STUDENT, G1_TEACHER)) / 2
    assert total.item() == pytest.approx(0.8486802400, abs=1e-9)


@given(st.integers(1, 5), st.integers(1, 8), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_it_is_its_definition(batch: int, classes: int, seed: int) -> None:
    """The mean of logsumexp less the logit of the teacher's class."""
    s, t = drawn(batch, classes, seed=seed), drawn(batch, classes, seed=seed + 100)
    found = [logsumexp(row) - row[np.argmax(other)] for row, other in zip(s.numpy(), t.numpy(), strict=True)]
    assert deit_token_loss(s, t).item() == pytest.approx(np.mean(found), abs=1e-12)


@given(st.integers(1, 5), st.integers(1, 8), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_two_fusions_are_their_definitions(batch: int, classes: int, seed: int) -> None:
    """Mean logits, or logarithms of mean probabilities; equal heads give themselves under either."""
    a, b = drawn(batch, classes, seed=seed), drawn(batch, classes, seed=seed + 100)
    assert fused(a, b).numpy() == pytest.approx((a.numpy() + b.numpy()) / 2)
    mean = (softmax(a.numpy(), axis=1) + softmax(b.numpy(), axis=1)) / 2
    assert fused(a, b, "probabilities").exp().numpy() == pytest.approx(mean, abs=1e-12)
    own = softmax(a.numpy(), axis=1)
    for fusion in ("logits", "probabilities"):
        assert softmax(fused(a, a, fusion).numpy(), axis=1) == pytest.approx(own, abs=1e-12)


def test_the_fusions_can_disagree() -> None:
    """In logits a head can veto a class, in probabilities it has one vote; and extreme logits stay finite."""
    against, sure = torch.tensor([[-20.0, 1, 0]]), torch.tensor([[5.0, 0, 0]])
    assert fused(against, sure).argmax().item() == 1
    assert fused(against, sure, "probabilities").argmax().item() == 0
    extreme = fused(1e4 * against, 1e4 * sure, "probabilities")
    assert torch.isfinite(extreme).all()


@pytest.mark.parametrize("family", ["deit", "dinov2_reg", "siglip2"])
def test_the_student_takes_one_token_and_one_head(
    family: str, batch: Batch, digits: ResolvedDataset, make_cell: MakeCell, make_method: MakeMethod
) -> None:
    """Every block sees one token more, the patches are still those that are pooled, both heads decide."""
    cell = make_cell(f"micro/{family}", "standard")
    bare = network(cell.student, digits)
    method, student = given_token(cell, digits, make_method)
    with torch.no_grad():
        found = student.eval()(batch.pixels, frozenset({"tokens/0", "tokens/3"}))
        vit, before = student.module, cell.student.prefix
        last = found.tokens[3]
        pooled = vit.get_submodule("fc_norm")(last[:, before + 1 :].mean(dim=1))
        of_token = method.token.head(vit.get_submodule("fc_norm")(last[:, before]))
        expected = (vit.get_submodule("head")(pooled) + of_token) / 2
    assert found.tokens[0].shape[1] == cell.student.tokens + 1
    assert found.logits is not None
    torch.testing.assert_close(found.logits, expected)
    torch.testing.assert_close(found.pooled, pooled)
    added = set(student.module.state_dict()) - set(bare.module.state_dict())
    assert added == {"distillation.token", "distillation.head.weight", "distillation.head.bias"}


@pytest.mark.parametrize("fusion", ["logits", "probabilities"])
def test_kept_weights_alone_give_the_reported_outputs(
    fusion: str, batch: Batch, digits: ResolvedDataset, make_cell: MakeCell, make_method: MakeMethod
) -> None:
    """A fresh student that takes a fresh token and loads the kept weights gives the same logits."""
    cell = make_cell()
    method, student = given_token(cell, digits, make_method, fusion=fusion)
    result = method.result(student)
    assert result is student
    again = network(cell.student, digits, seed=9)
    other = make_method("deit_token", cell, fusion=fusion)
    other.fit(again, None, [])
    again.module.load_state_dict(student.module.state_dict())
    with torch.no_grad():
        first, second = (each.eval()(batch.pixels).logits for each in (student, again))
    assert first is not None
    assert second is not None
    assert torch.equal(first, second)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        network(cell.student, digits).module.load_state_dict(student.module.state_dict())


def test_each_head_has_its_own_target(
    batch: Batch, digits: ResolvedDataset, make_cell: MakeCell, make_method: MakeMethod
) -> None:
    """The label part does not reach the token's head, nor the teacher's part the student's own."""
    method, student = given_token(make_cell(), digits, make_method, alpha=0.3)
    parts = method.step(student.train(), TEACHER, batch)
    head = student.module.get_parameter("head.weight")
    weights = (head, method.token.head.weight, method.token.token)
    reached = []
    for part in ("labels", "deit_token"):
        gradients = torch.autograd.grad(parts[part], weights, retain_graph=True, materialize_grads=True)
        reached.append([bool(gradient.abs().max() > 0) for gradient in gradients])
    assert reached == [[True, False, True], [False, True, True]]


def test_parts_are_shares_of_the_two_cross_entropies(
    batch: Batch, digits: ResolvedDataset, make_cell: MakeCell, make_method: MakeMethod
) -> None:
    """Shares alpha and 1 - alpha, the recipe's smoothing on true labels alone."""
    method, student = given_token(make_cell(), digits, make_method, alpha=0.3)
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda _module, _inputs, output: seen.__setitem__(name, output)

    student.module.get_submodule("head").register_forward_hook(keep("own"))
    method.token.head.register_forward_hook(keep("token"))
    parts = method.step(student.train(), TEACHER, batch)
    assert TEACHER.logits is not None
    labels = F.cross_entropy(seen["own"], batch.labels, label_smoothing=0.1)
    torch.testing.assert_close(parts["labels"], 0.7 * labels)
    predicted = F.cross_entropy(seen["token"], TEACHER.logits.argmax(dim=1))
    torch.testing.assert_close(parts["deit_token"], 0.3 * predicted)
    assert "distillation token and a second head, 538 weights" in method.notes()[0]


def test_the_control_reads_no_teacher(
    batch: Batch, digits: ResolvedDataset, make_cell: MakeCell, make_method: MakeMethod
) -> None:
    """With `target: labels` the token learns the true labels, smoothed as the recipe says."""
    method, student = given_token(make_cell(), digits, make_method, target="labels", alpha=1.0)
    assert method.teacher_taps() == frozenset()
    kept: list[Tensor] = []
    method.token.head.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    parts = method.step(student.train(), None, batch)
    expected = F.cross_entropy(kept[0], batch.labels, label_smoothing=0.1)
    torch.testing.assert_close(parts["deit_token"], expected)


def test_token_and_head_move_within_two_steps(
    batch: Batch, digits: ResolvedDataset, make_cell: MakeCell, make_method: MakeMethod
) -> None:
    """They are among the student's parameters, so an optimiser over the student alone trains them."""
    method, student = given_token(make_cell(), digits, make_method)
    optimiser = torch.optim.AdamW(student.parameters(), lr=1e-3)
    before = [p.detach().clone() for p in method.token.parameters()]
    for _ in range(2):
        optimiser.zero_grad()
        torch.stack(list(method.step(student.train(), TEACHER, batch).values())).sum().backward()
        optimiser.step()
    assert all(not torch.equal(a, b) for a, b in zip(before, method.token.parameters(), strict=True))
    kept = student.module.state_dict()
    assert torch.equal(kept["distillation.token"], method.token.token.detach())


def test_a_relative_position_table_is_refused(make_cell: MakeCell) -> None:
    """The table has no row for one more token; a standard student of the same teacher has no table."""
    entry = METHODS.get("deit_token")
    config = entry.method.Config()
    why = entry.method.refuses(config, make_cell("micro/beitv2", "native"))
    assert "relative position table has no place" in str(why)
    assert entry.method.refuses(config, make_cell("micro/beitv2", "standard")) is None
