"""What holds of every recipe on the shelf: it is read, planned, and a micro pair trains under it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from vitkd_bench.api import load_suite, plan_suite
from vitkd_bench.contracts import CellFacts, Features
from vitkd_bench.engine import PackOptions, run_pack
from vitkd_bench.engine.parts import Part, parts_of
from vitkd_bench.engine.trainee import Trainee
from vitkd_bench.networks import ViT, ViTNetwork, create_student
from vitkd_bench.pipeline import TrainStream, open_splits, resolve_dataset
from vitkd_bench.records import Preparations, Store
from vitkd_bench.registry import DATASETS, METHODS, RECIPES, TEACHERS
from vitkd_bench.spec import MethodUse, Pack, Plan, Recipe, Record, ResolvedDataset, Run, TeacherUse

CUT: dict[str, Any] = {"epochs": 1, "warmup_epochs": 0.1, "batch_size": 16, "image_size": 8}
"""What a micro network on the digits cannot have of a recipe for ImageNet."""

# 5e-4 for 512 images in DeiT; for 256 in MAE and Li et al.; rates of their own batch elsewhere
RATES = {
    "deit_300": (5e-4 / 512, 1024),
    "imagenet_100": (5e-4 / 512, 1024),
    "mae_finetune": (5e-4 / 256, 1024),
    "li_copy": (1e-3 / 256, 2048),
    "li_distill": (1e-4 / 256, 2048),
    "follow_up_300": (2e-3 / 4096, 4096),
}
SHELF = [*RECIPES]  # before other tests add some of their own
EVERY = [recipe for recipe in SHELF if recipe.name != "linear_probe"]  # under which nothing takes a step


def cut(recipe: Recipe) -> Recipe:
    """The recipe for a micro network on the digits."""
    return Recipe.parse({**recipe.plain(), **CUT}, recipe.name)


@pytest.mark.parametrize("recipe", SHELF, ids=lambda recipe: recipe.name)
def test_it_says_where_it_comes_from(recipe: Recipe) -> None:
    """Title and source are there, and the file opens with what is and is not known of it."""
    assert recipe.title
    assert recipe.source
    text = Path(RECIPES.origin(recipe.name)).read_text(encoding="utf-8")
    assert text.startswith("# ")


@pytest.mark.parametrize("name", RATES)
def test_rates_are_those_of_the_batch(name: str) -> None:
    """Sources give a rate for some images; a recipe gives that of its own batch, computed."""
    per_image, batch = RATES[name]
    recipe = RECIPES.get(name)
    assert recipe.batch_size == batch
    assert recipe.lr == pytest.approx(per_image * batch)
    assert recipe.warmup_epochs < recipe.epochs
    assert recipe.min_lr < recipe.lr


def test_li_et_als_two_differ_as_their_commands_do() -> None:
    """One augmentation; decay of rates in copying, drop path and a smaller second beta in distilling."""
    copy, distill = RECIPES.get("li_copy"), RECIPES.get("li_distill")
    assert copy.augmentation == distill.augmentation == RECIPES.get("mae_finetune").augmentation
    assert (copy.layer_decay, distill.layer_decay) == (0.75, None)
    assert (copy.drop_path, distill.drop_path) == (0.0, 0.2)
    assert (copy.betas[1], distill.betas[1]) == (0.999, 0.95)
    assert (copy.min_lr, distill.min_lr) == (2e-3, 1e-6)
    assert copy.ema == distill.ema == 0.9999


def planned(recipe: str, folder: Path, *methods: str) -> Plan:
    """Plan a micro teacher and some methods under a recipe, cut to the digits."""
    changes = "".join(f", {name}: {value}" for name, value in CUT.items())
    path = folder / f"{recipe}.yaml"
    path.write_text(
        f"suite: {recipe}\nversion: 1\ndatasets: [digits]\nrecipe: {{base: {recipe}{changes}}}\n"
        f"teachers: [micro/deit]\nstudents: [standard]\nmethods: [{', '.join(methods)}]\nseeds: [0]\n"
    )
    return plan_suite(load_suite(str(path), ()))


@pytest.mark.parametrize("recipe", EVERY, ids=lambda recipe: recipe.name)
def test_it_plans(recipe: Recipe, tmp_path: Path) -> None:
    """Cells are planned; where images are mixed or repeated, those that cannot take it are refused so."""
    plan = planned(recipe.name, tmp_path, "none", "attn_copy", "kd", "dkd", "crd")
    rule = recipe.augmentation
    assert {cell.method for cell in plan.cells} >= {"none", "attn_copy", "kd"}
    refused = {refusal.method: refusal.reason for refusal in plan.refusals}
    assert set(refused) == ({"dkd", "crd"} if rule.mixes else {"crd"} if rule.repeated > 1 else set())
    assert all("mixes images" in reason or "times in a batch" in reason for reason in refused.values())


def digits() -> ResolvedDataset:
    """The digits, resolved."""
    return resolve_dataset(DATASETS.get("digits"), {}, (), "test")


def teacher() -> ViTNetwork:
    """A frozen micro network with drawn weights."""
    facts = TEACHERS.get("micro/deit")
    vit = ViT(facts.architecture, 10)
    vit.load_state_dict(create_student(facts.architecture, 10, facts.pixels, 9).module.state_dict())
    return ViTNetwork(vit, facts.architecture, facts.pixels, frozen=True)


def trainee(recipe: Recipe, method: str) -> Trainee:
    """A micro pair under a recipe, ready for its first step."""
    facts = TEACHERS.get("micro/deit")
    use = TeacherUse(name=facts.name, pin="sha256:0", key="sha256:0", image_size=8, version=1)
    run = Run(
        student=facts.architecture,
        method=MethodUse(name=method, version=METHODS.get(method).version),
        teacher=use,
        dataset=digits(),
        recipe=recipe,
        seed=0,
    )
    cell = CellFacts(run.student, run.dataset, facts, facts.architecture, recipe, 1000)
    made = Trainee(run, cell, 10, torch.device("cpu"))
    made.prepare(None, lambda: iter(()))
    return made


@pytest.mark.parametrize("method", ["attn_copy", "kd"])
@pytest.mark.parametrize("recipe", EVERY, ids=lambda recipe: recipe.name)
def test_a_micro_pair_trains_two_steps(recipe: Recipe, method: str) -> None:
    """Under its augmentation, optimiser and precision the student moves, its loss a number."""
    made, frozen = trainee(cut(recipe), method), teacher()
    before = [parameter.detach().clone() for parameter in made.network.parameters()]
    stream = TrainStream(open_splits(digits(), (), 8).train, cut(recipe), 0)
    for step in range(2):
        for part in parts_of(stream.batch(step), recipe.accumulate):
            read: Features = frozen(part.batch.pixels, made.method.teacher_taps())
            made.train_step(part, read, len(stream))
            frozen.clear()
    assert made.failure is None
    assert made.step_count == 2
    assert made.last_good_loss is not None
    moved = [not torch.equal(old, new) for old, new in zip(before, made.network.parameters(), strict=True)]
    assert sum(moved) > len(moved) / 2
    assert (made.average is not None) is (recipe.ema is not None)


def test_mixed_images_go_through_the_engine(tmp_path: Path) -> None:
    """Under mixing and repetition a run is the same in a pack, alone, and in a loop written out."""
    plan = planned("deit_300", tmp_path, "none", "label_smoothing")
    runs = {cell.method: cell.runs["0"] for cell in plan.cells}

    def record(place: str, *methods: str) -> Record:
        store = Store(tmp_path / place)
        pack = Pack(id=place, runs=tuple(runs[method] for method in methods))
        run_pack(plan, pack, store, Preparations(tmp_path / "made"), PackOptions())
        found = store.read(runs["none"])
        assert found is not None
        assert found.status == "done", found.error
        return found

    alone, together = record("alone", "none"), record("together", "label_smoothing", "none")
    assert alone.metrics == together.metrics
    assert alone.curve == together.curve
    made = Trainee(
        plan.runs[runs["none"]],
        CellFacts(plan.runs[runs["none"]].student, digits(), recipe=cut(RECIPES.get("deit_300"))),
        10,
        torch.device("cpu"),
    )
    made.prepare(None, lambda: iter(()))
    stream = TrainStream(open_splits(digits(), (), 8).train, made.run.recipe, 0)
    for batch in stream:
        made.train_step(Part(batch), None, len(stream))
    made.end_epoch({})
    assert alone.curve[0]["loss"] == made.curve[0]["loss"]
