"""The fields of a recipe that say how a step is computed give the step of the plain form."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine.conftest import PlanOf
from tests.methods.conftest import as_teacher
from vitkd_bench.contracts import Batch, CellFacts, Features
from vitkd_bench.engine import PackOptions, run_pack
from vitkd_bench.engine.optimiser import make_optimiser
from vitkd_bench.engine.parts import parts_of
from vitkd_bench.engine.trainee import Trainee
from vitkd_bench.networks import ViTNetwork, create_student
from vitkd_bench.pipeline import TrainStream, open_splits, resolve_dataset
from vitkd_bench.records import Preparations, Store
from vitkd_bench.registry import DATASETS, METHODS, RECIPES, TEACHERS
from vitkd_bench.spec import BadInputError, MethodUse, Recipe, Run, TeacherUse

METHODS_TRIED = ["none", "attn_copy", "attn_distill", "kd"]
CPU = torch.device("cpu")


def recipe(**changes: Any) -> Recipe:
    """The short micro recipe with changes, checked as a suite's are."""
    return Recipe.parse({**RECIPES.get("micro_short").plain(), **changes}, "test")


def teacher() -> ViTNetwork:
    """A frozen micro network with random weights."""
    facts = TEACHERS.get("micro/deit")
    return as_teacher(create_student(facts.architecture, 10, facts.pixels, 9))


def trainee(method: str, recipe: Recipe) -> Trainee:
    """A run of the micro pair, ready for its first step."""
    facts, entry = TEACHERS.get("micro/deit"), METHODS.get(method)
    digits = resolve_dataset(DATASETS.get("digits"), {}, (), "test")
    use = TeacherUse(name="micro/deit", pin="sha256:0", key="sha256:0", image_size=8, version=1)
    run = Run(
        student=facts.architecture,
        method=MethodUse(name=method, version=entry.version),
        teacher=use if entry.reads_teacher else None,
        dataset=digits,
        recipe=recipe,
        seed=0,
    )
    cell = CellFacts(run.student, digits, recipe=recipe, train_size=1000)
    if entry.reads_teacher:
        cell = replace(cell, teacher=facts, teacher_architecture=facts.architecture)
    made = Trainee(run, cell, 10, CPU)
    made.prepare(teacher(), lambda: iter([batch(recipe)]))
    return made


def batch(recipe: Recipe) -> Batch:
    """The first training batch."""
    digits = resolve_dataset(DATASETS.get("digits"), {}, (), "test")
    return TrainStream(open_splits(digits, (), 8).train, recipe, seed=0).batch(0)


def read(made: Trainee, part: Batch) -> Features | None:
    """Read of the teacher what the method names."""
    taps = made.method.teacher_taps()
    with torch.no_grad():
        return teacher()(part.pixels, taps) if taps else None


def gradients(made: Trainee, count: int = 1) -> dict[str, Tensor]:
    """Take one step and give the gradient that it was taken with, before any clipping."""
    kept: dict[str, Tensor] = {}
    assert made.optimiser is not None
    made.optimiser.register_step_pre_hook(
        lambda *_: kept.update(
            {n: p.grad.clone() for n, p in made.network.named_parameters() if p.grad is not None}
        )
    )
    for part in parts_of(batch(made.run.recipe), count):
        made.train_step(part, read(made, part.batch), 10)
    assert made.failure is None
    return kept


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], within: float) -> None:
    """Two gradients are equal, relative to the length of the whole."""
    assert found.keys() == expected.keys()
    length = torch.stack([g.norm() for g in expected.values()]).norm()
    distance = torch.stack([(found[n] - expected[n]).norm() for n in expected]).norm()
    assert distance < within * length


@pytest.mark.parametrize("method", METHODS_TRIED)
def test_a_batch_in_parts_gives_the_gradient_of_the_whole(method: str) -> None:
    """Parts of unequal size count by their size, and one optimiser step follows the last."""
    plain = trainee(method, recipe(clip_grad=None))
    cut = trainee(method, recipe(clip_grad=None))
    assert_same(gradients(cut, 5), gradients(plain), 1e-5)
    assert cut.step_count == plain.step_count == 1
    assert cut.last_good_loss == pytest.approx(plain.last_good_loss, rel=1e-5)


def test_parts_keep_every_sample_once() -> None:
    """Parts in order make up the batch, views included; a batch smaller than the count is cut to singles."""
    whole = batch(recipe())
    whole = Batch(whole.pixels, whole.labels, whole.ids, views=(whole.pixels + 1,))
    parts = list(parts_of(whole, 3))
    assert [p.first for p in parts] == [True, False, False]
    assert [p.last for p in parts] == [False, False, True]
    assert sum(p.share for p in parts) == pytest.approx(1)
    for name in ("pixels", "labels", "ids"):
        assert torch.equal(torch.cat([getattr(p.batch, name) for p in parts]), getattr(whole, name))
    assert torch.equal(torch.cat([p.batch.views[0] for p in parts]), whole.views[0])
    assert len(list(parts_of(whole, 1000))) == len(whole.ids)


@pytest.mark.parametrize("method", METHODS_TRIED)
def test_recomputed_blocks_give_the_same_gradient_and_keep_less(method: str) -> None:
    """Activation checkpointing changes no number and holds fewer activations for the backward pass."""
    kept = {}
    found = {}
    for checkpointing in (False, True):
        made = trainee(method, recipe(checkpointing=checkpointing, clip_grad=None))
        total = [0]

        def pack(tensor: Tensor, total: list[int] = total) -> Tensor:
            total[0] += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            part = next(parts_of(batch(made.run.recipe), 1)).batch
            made.method.step(made.network.train(), read(made, part), part)
        made.network.clear()
        kept[checkpointing] = total[0]
        found[checkpointing] = gradients(made)
    assert_same(found[True], found[False], 1e-6)
    assert kept[True] < 0.6 * kept[False]


def test_dropped_paths_are_the_same_when_blocks_are_recomputed() -> None:
    """The random state of a block is that of its first pass."""
    plain, again = (
        gradients(trainee("none", recipe(checkpointing=on, drop_path=0.5, clip_grad=None)))
        for on in (False, True)
    )
    assert_same(again, plain, 1e-6)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="torch.compile needs a C compiler, and there is none")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # from an import of its own
@pytest.mark.timeout(300)
@pytest.mark.parametrize("method", ["none", "attn_distill"])
def test_a_compiled_student_gives_the_same_gradient(method: str) -> None:
    """torch.compile changes the last bits and nothing else."""
    import torch._inductor.config as inductor  # seconds, which the other tests need not wait for

    try:
        with inductor.patch(compile_threads=1):  # its pool of processes would outlive us
            compiled = gradients(trainee(method, recipe(compile=True, clip_grad=None)))
    finally:
        torch.compiler.reset()
    assert_same(compiled, gradients(trainee(method, recipe(clip_grad=None))), 1e-4)


@pytest.mark.parametrize("method", METHODS_TRIED)
def test_bfloat16_gives_the_loss_within_its_precision(method: str) -> None:
    """Eight bits of mantissa: a per cent or so of the loss, and a gradient of the same direction."""
    plain, coarse = trainee(method, recipe()), trainee(method, recipe(precision="bfloat16"))
    exact, rough = gradients(plain), gradients(coarse)
    assert coarse.last_good_loss == pytest.approx(plain.last_good_loss, rel=0.02)
    one, other = (torch.cat([g[n].flatten() for n in exact]) for g in (exact, rough))
    assert torch.cosine_similarity(one, other, dim=0) > 0.98


def test_the_average_follows_the_weights_and_is_evaluated() -> None:
    """After each step it moves a share 1 - momentum towards the student, and is what `trained` gives."""
    made = trainee("none", recipe(ema=0.8))
    weight = made.network.module.get_parameter("head.weight")
    expected = weight.detach().clone()
    for _ in range(3):
        gradients(made)
        expected = 0.8 * expected + 0.2 * weight.detach()
    assert made.average is not None
    found = made.trained().module.get_parameter("head.weight")
    torch.testing.assert_close(found, expected)
    assert not torch.equal(found, weight)
    other = trainee("none", recipe(ema=0.8))
    other.restore(made.state())
    assert torch.equal(other.trained().module.get_parameter("head.weight"), found)


def test_rates_fall_from_layer_to_layer() -> None:
    """Layer decay as MAE's fine-tuning has it: the head at the full rate, the patches at the lowest."""
    made = trainee("none", recipe(layer_decay=0.5))
    gradients(made)
    optimiser = make_optimiser(made.network, made.method, recipe(layer_decay=0.5))
    rates = {id(p): group["scale"] for group in optimiser.param_groups for p in group["params"]}
    named = {name: rates[id(p)] for name, p in made.network.named_parameters()}
    depth = len(made.network.blocks)
    assert named["module.head.weight"] == named["module.fc_norm.weight"] == 1.0
    assert named[f"module.blocks.{depth - 1}.attn.qkv.weight"] == 0.5
    assert named["module.blocks.0.norm1.bias"] == 0.5**depth
    for first in ("patch_embed.proj.weight", "pos_embed", "cls_token"):
        assert named[f"module.{first}"] == 0.5 ** (depth + 1)
    assert made.optimiser is not None
    actual = {group["scale"]: group["lr"] for group in made.optimiser.param_groups}
    assert actual[0.5] == pytest.approx(0.5 * actual[1.0])


def test_all_fields_together_through_the_engine(
    plan_of: PlanOf, preparations: Preparations, store: Store
) -> None:
    """A pack under all of them ends in records, and a resumed one in the same."""
    fields = ("accumulate=4", "checkpointing=true", "ema=0.9", "layer_decay=0.75")
    plan = plan_of(*(f"recipe.{field}" for field in fields), only=("quick/deit:standard:attn_copy:*",))
    for pack in plan.packs:
        run_pack(plan, pack, store, preparations, PackOptions())
    for id_ in plan.runs:
        record = store.read(id_)
        assert record is not None
        assert record.status == "done", record.error


def test_parts_that_do_not_divide_the_batch_are_refused() -> None:
    """By field, with both numbers."""
    with pytest.raises(BadInputError, match="accumulate: 3 parts do not divide batch_size 64"):
        recipe(accumulate=3)


@pytest.mark.parametrize("changes", [{}, {"accumulate": 2}, {"checkpointing": True}])
def test_gradient_norms_of_the_first_steps_are_measured(changes: dict[str, Any]) -> None:
    """Each part's norm is that of its own backward pass, and measuring moves no weight."""
    method = "attn_distill"
    made, untouched = trainee(method, recipe(**changes)), trainee(method, recipe(**changes))
    untouched.gradients.steps = 0
    part = next(parts_of(batch(made.run.recipe), made.run.recipe.accumulate))
    made.network.train()
    losses = made.method.step(made.network, read(made, part.batch), part.batch)
    expected = {}
    for name, loss in losses.items():
        made.network.zero_grad()
        (part.share * loss).backward(retain_graph=True)
        squares = [p.grad.square().sum() for p in made.network.parameters() if p.grad is not None]
        expected[name] = torch.stack(squares).sum().sqrt().item()
    made.network.clear()
    one, other = (gradients(each, made.run.recipe.accumulate) for each in (made, untouched))
    assert all(torch.equal(one[name], other[name]) for name in other)
    assert made.gradients.means() == pytest.approx(expected, rel=1e-4)
    assert untouched.gradients.means() == {}
