from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.methods.conftest import MakeCell, MakeMethod, as_teacher, network
from vitkd_bench.contracts import Batch, CellFacts
from vitkd_bench.methods.finetune_sam import ascent, scaled_blocks
from vitkd_bench.networks import ViTNetwork, create_student
from vitkd_bench.registry import METHODS, RECIPES
from vitkd_bench.spec import ResolvedDataset

seeds = st.integers(0, 2**32 - 1)


def test_it_has_its_golden_value() -> None:
    """On half w'Aw the gradient at the perturbed point is A (w + rho g / ||g||)."""
    a = torch.tensor([[2, 0.5], [0.5, 1]], dtype=torch.float64)
    w = torch.tensor([1, -2], dtype=torch.float64)
    step = ascent({"w": a @ w}, 0.05)["w"]
    expected = torch.tensor([1.0346687623, -1.5277350098], dtype=torch.float64)
    torch.testing.assert_close(a @ (w + step), expected, atol=1e-9, rtol=0)


@given(seed=seeds, rho=st.floats(1e-3, 10), scale=st.floats(1e-3, 1e3))
def test_the_step_has_one_length_over_all_tensors(seed: int, rho: float, scale: float) -> None:
    """Its norm is rho however long the gradient is, and its direction is the gradient's."""
    draw = torch.Generator().manual_seed(seed)
    gradients = {n: torch.randn(3, k, generator=draw, dtype=torch.float64) for n, k in (("a", 2), ("b", 5))}
    step = ascent({name: scale * g for name, g in gradients.items()}, rho)
    flat, along = (torch.cat([each[n].flatten() for n in "ab"]) for each in (step, gradients))
    assert flat.norm().item() == pytest.approx(rho, rel=1e-9)
    assert torch.cosine_similarity(flat, along, dim=0).item() == pytest.approx(1, abs=1e-9)


def test_nothing_moves_where_nothing_is_to_be_gained() -> None:
    """A gradient of zero has no direction, and none is made up."""
    assert ascent({"a": torch.zeros(4)}, 0.1)["a"].tolist() == [0.0] * 4


@given(depth=st.integers(1, 40), share=st.floats(0.01, 1))
def test_the_blocks_are_at_the_end_that_is_named(depth: int, share: float) -> None:
    """As many at the first end as at the last, one at least, none beyond the network."""
    first, last = scaled_blocks(depth, share, "first"), scaled_blocks(depth, share, "last")
    assert 1 <= len(first) == len(last) <= depth
    assert first[0] == 0
    assert last[-1] == depth - 1
    assert abs(len(last) - share * depth) <= 1


def dropping(cell: CellFacts, digits: ResolvedDataset) -> ViTNetwork:
    """A student whose every forward in training draws drop path masks."""
    made = create_student(cell.student, 10, digits.pixels, 0, 0.5)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    return made.train()


def by_hand(student: ViTNetwork, batch: Batch, rho: float, start: Tensor) -> dict[str, Tensor]:
    """The gradient at the worst point near, by moving the weights there and back."""
    named = dict(student.named_parameters())

    def gradient() -> dict[str, Tensor]:
        torch.set_rng_state(start)
        logits = student(batch.pixels).logits
        assert logits is not None
        loss = torch.nn.functional.cross_entropy(logits, batch.labels, label_smoothing=batch.label_smoothing)
        student.zero_grad()
        loss.backward()
        return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in named.items()}

    first = gradient()
    norm = sum(g.square().sum().item() for g in first.values()) ** 0.5
    with torch.no_grad():
        for name, p in named.items():
            p.add_(rho / norm * first[name])
    second = gradient()
    with torch.no_grad():
        for name, p in named.items():
            p.sub_(rho / norm * first[name])
    return second


def test_a_step_has_the_gradient_of_the_perturbed_weights(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """Both passes see the same masks; weights and random state are left as by a step of one pass."""
    cell = make_cell("micro/deit", "native")
    student = dropping(cell, digits)
    start, weights = torch.get_rng_state(), {n: p.detach().clone() for n, p in student.named_parameters()}
    make_method("finetune_sam", cell, rho=0.5).step(student, None, batch)["labels"].backward()
    found = {n: p.grad.clone() for n, p in student.named_parameters() if p.grad is not None}
    after = torch.get_rng_state()
    assert all(torch.equal(p, weights[n]) for n, p in student.named_parameters())
    expected = by_hand(student, batch, 0.5, start)
    assert torch.equal(after, torch.get_rng_state())
    largest = max(g.abs().max().item() for g in expected.values())
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-4 * largest, rtol=1e-3)
    plain = by_hand(student, batch, 0.0, start)
    assert max((found[n] - plain[n]).abs().max().item() for n in found) > 0.01 * largest


def test_without_a_radius_it_is_fine_tuning(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """The same loss, gradients and random state, to the last bit."""
    cell = make_cell("micro/deit", "native")
    found = []
    for name, settings in (("finetune", {}), ("finetune_sam", {"rho": 0.0})):
        torch.manual_seed(3)
        student, teacher = dropping(cell, digits), as_teacher(network(cell.student, digits, seed=5))
        method = make_method(name, cell, **settings)
        method.fit(student, teacher, [batch])
        loss = method.step(student, None, batch)["labels"]
        loss.backward()
        found.append((loss, [p.grad for p in student.parameters()], torch.get_rng_state()))
    (one, ours, here), (other, theirs, there) = found
    assert torch.equal(one, other)
    assert torch.equal(here, there)
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None and b is None) or (a is not None and b is not None and torch.equal(a, b))


@pytest.mark.parametrize(("branch", "part"), [("mlp", "mlp"), ("attention", "attn")])
@pytest.mark.parametrize("family", ["deit", "beitv2"])
def test_a_scaled_branch_gives_that_much_less(
    batch: Batch,
    make_cell: MakeCell,
    make_method: MakeMethod,
    digits: ResolvedDataset,
    family: str,
    branch: str,
    part: str,
) -> None:
    """On the same input its output is gamma times the teacher's, bias and all; that of others is the same."""
    cell = make_cell(f"micro/{family}", "native")
    student, teacher = network(cell.student, digits), as_teacher(network(cell.student, digits, seed=5))
    with torch.no_grad():
        for name, parameter in teacher.module.named_parameters():
            if name.endswith(".bias"):
                parameter.normal_()
    method = make_method("finetune_sam", cell, gamma=0.25, share=0.5, branch=branch)
    method.fit(student, teacher, [batch])
    tokens = torch.randn(2, cell.student.tokens, cell.student.size.width)
    for i, (own, other) in enumerate(zip(student.blocks, teacher.blocks, strict=True)):
        for each in ("mlp", "attn"):
            ratio = 0.25 if each == part and i >= 2 else 1.0
            given, from_teacher = own.get_submodule(each)(tokens), other.get_submodule(each)(tokens)
            torch.testing.assert_close(given, ratio * from_teacher)
    assert method.notes()[-1] == f"the {branch} of blocks 2, 3 is scaled by 0.25 throughout"


def test_recipes_that_do_not_see_other_weights_are_refused(make_cell: MakeCell) -> None:
    """Recomputed or compiled blocks would run at the weights as they are; parts have a point each."""
    entry = METHODS.get("finetune_sam")
    for field, value in (("checkpointing", True), ("compile", True), ("accumulate", 2)):
        recipe = RECIPES.get("micro_short").model_copy(update={field: value})
        cell = replace(make_cell("micro/deit", "native"), recipe=recipe)
        why = entry.refuses(entry.method.Config(), cell)
        assert why is not None
        assert field in why
        assert entry.refuses(entry.method.Config.parse({"rho": 0.0}), cell) is None


@pytest.mark.parametrize("rho", [0.0, 0.3])
def test_the_factor_is_held_while_training(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset, rho: float
) -> None:
    """Three steps end where a network ends whose branch outputs a hook multiplies, its weights whole."""
    cell = make_cell("micro/deit", "native")
    teacher = as_teacher(network(cell.student, digits, seed=5))
    own, hooked = network(cell.student, digits), network(cell.student, digits)
    held, whole = (make_method("finetune_sam", cell, gamma=gamma, share=0.5, rho=rho) for gamma in (0.25, 1))
    held.fit(own, teacher, [batch])
    whole.fit(hooked, teacher, [batch])
    for block in list(hooked.blocks)[2:]:
        block.get_submodule("mlp.fc2").register_forward_hook(lambda _, __, out: 0.25 * out)
    for student, method in ((own, held), (hooked, whole)):
        optimiser = torch.optim.AdamW(student.parameters(), lr=1e-3, weight_decay=0.1)
        for _ in range(3):
            optimiser.zero_grad()
            method.step(student, None, batch)["labels"].backward()
            optimiser.step()
            method.after_step(student, 0.0)
            student.clear()
    ours, theirs = (dict(student.module.named_parameters()) for student in (own, hooked))
    for name, weight in theirs.items():
        scaled = name.startswith(("blocks.2.mlp.fc2", "blocks.3.mlp.fc2"))
        torch.testing.assert_close(ours[name], 0.25 * weight if scaled else weight, atol=1e-6, rtol=1e-5)
    expected = hooked(batch.pixels).logits
    torch.testing.assert_close(own(batch.pixels).logits, expected, atol=1e-5, rtol=1e-5)
