"""Controls through the loop: they change what the student learns from, and nothing else of the pack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.engine.conftest import SUITE, PlanOf
from vitkd_bench.contracts import Batch, taps
from vitkd_bench.contracts.taps import LOGITS
from vitkd_bench.engine import Interrupted, PackOptions, run_pack
from vitkd_bench.engine.evaluation import log_probabilities
from vitkd_bench.engine.setting import Setting, settle
from vitkd_bench.networks import ViTNetwork
from vitkd_bench.pipeline import plain_batches
from vitkd_bench.pipeline.decoded import Decoded
from vitkd_bench.records import Preparations, Store
from vitkd_bench.spec import Pack, Plan, Run

CONTROLLED = [
    "attn_copy",
    "{name: attn_copy, control: shuffled_maps}",
    "{name: attn_copy, as: own_at_test, control: {name: shuffled_maps, among: same_class}}",
    "{name: attn_copy, control: wrong_layers}",
    "{name: attn_distill, control: mean_map}",
    "{name: kd, control: dkpp}",
    "{name: kd, control: virtual_teacher}",
    "{name: projector, control: frozen_projector}",
]
OTHERS = [
    "{name: attn_copy, control: random_teacher}",
    "{name: attn_copy, control: independent_view}",
    "{name: attn_copy, control: {name: other_teacher, teacher: quick/dinov2}}",
    "{name: kd, control: random_head}",
    "{name: kd, control: cwtm}",
]


def text_of(methods: list[str]) -> str:
    """The quick suite with these methods, one student, test alone, under slight augmentation."""
    text = SUITE.replace("[none, attn_copy, attn_distill, kd]", f"[none, {', '.join(methods)}]")
    recipe = "recipe: {base: quick, augmentation: {shift: 1}}\nevaluate: [test]"
    return text.replace("recipe: quick", recipe).replace("[standard, native]", "[standard]")


@pytest.fixture(scope="module")
def plan(plan_of: PlanOf) -> Plan:
    """All of them for one teacher."""
    return plan_of(text=text_of(CONTROLLED + OTHERS), only=("quick/deit:*",))


@pytest.fixture(scope="module")
def finished(
    plan: Plan, preparations: Preparations, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Plan, Store]:
    """All packs, run."""
    store = Store(tmp_path_factory.mktemp("controls"))
    for pack in plan.packs:
        if not pack.preparation:
            run_pack(plan, pack, store, preparations, PackOptions())
    return plan, store


def named(plan: Plan, method: str) -> Run:
    """The run of a cell."""
    (cell,) = [c for c in plan.cells if c.method == method]
    return plan.runs[cell.runs["0"]]


def settled(plan: Plan, preparations: Preparations, *methods: str) -> Setting:
    """The setting of some runs that share a pack."""
    return settle(plan, [named(plan, m) for m in methods], preparations, PackOptions())


def batches_of(setting: Setting) -> Callable[[], Iterator[Batch]]:
    """Plain passes over the training images."""
    return lambda: plain_batches(setting.splits.train, 128)


def logits_of(teacher: ViTNetwork, pixels: Tensor) -> Tensor:
    """What the teacher says of some pixels."""
    found = teacher(pixels, frozenset({LOGITS})).logits
    assert found is not None
    return found


def test_every_control_leaves_a_record_that_says_what_it_is(finished: tuple[Plan, Store]) -> None:
    """All are done, none has its method's result, and name, facts and settings tell them from it."""
    plan, store = finished
    records = store.records()
    assert {r.status for r in records.values()} == {"done"}
    assert set(records) == set(plan.runs)
    for id_, run in plan.runs.items():
        facts, control = records[id_].facts["method"], run.method.control
        assert records[id_].cell.method == run.method.canonical
        assert facts["control_of"] == (run.method.name if control else None)
        if control:
            assert facts["control"] == control.name
            assert "control_settings" in records[id_].config
            assert records[id_].versions["control"] == 1
    weights = [r.weights_sha256 for r in records.values()]
    assert len(set(weights)) == len(weights)


@pytest.mark.parametrize(
    "method", ["attn_copy+shuffled_maps", "attn_copy+wrong_layers", "kd+virtual_teacher"]
)
def test_a_control_alone_gives_the_record_of_its_pack(
    finished: tuple[Plan, Store], preparations: Preparations, tmp_path: Path, method: str
) -> None:
    """Trained alone, a control leaves the same record to the last bit."""
    plan, together = finished
    run = named(plan, method)
    shared = next(pack for pack in plan.packs if run.id in pack.runs)
    assert len(shared.runs) > 1
    alone = Store(tmp_path)
    run_pack(plan, Pack(id="alone", runs=(run.id,)), alone, preparations, PackOptions())
    one, other = alone.read(run.id), together.read(run.id)
    assert one is not None
    assert other is not None
    assert one.result() == other.result()


def test_a_method_does_not_feel_its_controls(
    finished: tuple[Plan, Store], preparations: Preparations, tmp_path: Path
) -> None:
    """The method beside its controls gives the record that it gives alone."""
    plan, together = finished
    run = named(plan, "attn_copy")
    alone = Store(tmp_path)
    run_pack(plan, Pack(id="alone", runs=(run.id,)), alone, preparations, PackOptions())
    one, other = alone.read(run.id), together.read(run.id)
    assert one is not None
    assert other is not None
    assert one.result() == other.result()


def test_a_resumed_control_ends_like_an_undisturbed_one(
    finished: tuple[Plan, Store], preparations: Preparations, tmp_path: Path
) -> None:
    """Draws, soft labels and frozen parameters come back without a place in the checkpoint."""
    plan, whole = finished
    names = ("attn_copy+shuffled_maps", "kd+virtual_teacher", "projector+frozen_projector", "kd+dkpp")
    runs = tuple(named(plan, name).id for name in names)
    pack, store, asked = Pack(id="some", runs=runs), Store(tmp_path), iter(range(10_000))
    stop_late = PackOptions(should_stop=lambda: next(asked) >= 6, checkpoint_s=0.0)
    with pytest.raises(Interrupted):
        run_pack(plan, pack, store, preparations, stop_late)
    assert all(store.checkpoint_path(id_).is_file() for id_ in runs)
    run_pack(plan, pack, store, preparations, PackOptions())
    for id_ in runs:
        one, other = store.read(id_), whole.read(id_)
        assert one is not None
        assert other is not None
        assert one.result() == other.result()


def test_a_frozen_projector_stays_and_the_student_learns(plan: Plan, preparations: Preparations) -> None:
    """No parameter of the method is in the optimiser; every one of the student is."""
    setting = settled(plan, preparations, "projector+frozen_projector")
    (trainee,) = setting.trainees
    trainee.prepare(setting.teacher, list)
    assert trainee.optimiser is not None
    trained = {id(p) for group in trainee.optimiser.param_groups for p in group["params"]}
    assert {id(p) for p in trainee.network.parameters()} <= trained
    assert isinstance(trainee.method, torch.nn.Module)
    assert not {id(p) for p in trainee.method.parameters()} & trained


def test_soft_labels_are_the_mean_by_class(plan: Plan, preparations: Preparations) -> None:
    """Each class's row is the plain mean of the teacher's probabilities over its training images."""
    setting = settled(plan, preparations, "kd+virtual_teacher")
    (trainee,), teacher, train = setting.trainees, setting.teacher, setting.splits.train
    assert teacher is not None
    batches = batches_of(setting)
    trainee.prepare(teacher, batches)
    logits = torch.cat([logits_of(teacher, batch.pixels) for batch in batches()])
    labels, first = torch.tensor(train.labels), next(batches())
    seen = trainee.seen(teacher(first.pixels, frozenset({LOGITS})), first.ids, first)
    assert seen is not None
    assert seen.logits is not None
    for image in range(20):
        expected = logits[labels == first.labels[image]].double().softmax(dim=1).mean(dim=0)
        found = seen.logits[image].double().softmax(dim=0)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_a_random_teacher_knows_nothing_and_is_not_the_student(
    plan: Plan, preparations: Preparations
) -> None:
    """Other weights than the trained teacher's and than those that the student starts from; frozen."""
    setting = settled(plan, preparations, "attn_copy+random_teacher")
    trained = settled(plan, preparations, "attn_copy").teacher
    (trainee,) = setting.trainees
    assert setting.teacher is not None
    assert trained is not None
    name = "blocks.0.mlp.fc1.weight"
    weight = setting.teacher.module.get_parameter(name)
    assert weight.shape == trained.module.get_parameter(name).shape
    assert (weight != trained.module.get_parameter(name)).all()
    assert (weight != trainee.network.module.get_parameter(name)).all()
    assert not any(p.requires_grad for p in setting.teacher.parameters())
    again = settled(plan, preparations, "attn_copy+random_teacher").teacher
    assert again is not None
    assert (again.module.get_parameter(name) == weight).all()


def test_an_independent_view_is_the_second_one(plan: Plan, preparations: Preparations) -> None:
    """Two views are drawn, and the teacher sees the other one; the method alone has one."""
    setting = settled(plan, preparations, "attn_copy+independent_view")
    assert (setting.views, setting.teacher_view) == (2, 1)
    own = settled(plan, preparations, "attn_copy")
    assert (own.views, own.teacher_view) == (1, 0)


def test_at_test_the_class_is_not_told(plan: Plan, preparations: Preparations) -> None:
    """A student under copied maps is evaluated the same, whatever the labels of the images are."""
    setting = settled(plan, preparations, "attn_copy", "attn_copy+shuffled_maps", "own_at_test")
    for trainee in setting.trainees:
        trainee.prepare(setting.teacher, list)
    val = setting.splits.val
    relabelled = Decoded(val.images, val.labels[::-1].copy(), val.ids)
    one = log_probabilities(setting.trainees, setting.teacher, val, setting.showing)
    other = log_probabilities(setting.trainees, setting.teacher, relabelled, setting.showing)
    assert all((a == b).all() for a, b in zip(one, other, strict=True))
    own, shuffled, own_at_test = one
    assert (own == own_at_test).all()
    assert (own != shuffled).any()


def test_a_control_sees_what_its_method_asked_for_and_no_more(plan: Plan, preparations: Preparations) -> None:
    """Of a reading that the pack shares, a control is given its own part."""
    setting = settled(plan, preparations, "attn_copy+wrong_layers", "kd+dkpp")
    copied, permuted = setting.trainees
    assert setting.teacher is not None
    batch = next(batches_of(setting)())
    wanted = copied.teacher_taps() | permuted.teacher_taps() | {taps.tokens(0)}
    read = setting.teacher(batch.pixels, wanted)
    seen, logits = copied.seen(read, batch.ids, batch), permuted.seen(read, batch.ids, batch)
    assert seen is not None
    assert logits is not None
    assert (seen.logits, set(seen.attention), set(seen.tokens)) == (None, {0, 1, 2, 3}, set())
    assert seen.attention[0] is read.attention[3]
    assert logits.logits is not None
    assert not logits.attention
