from dataclasses import replace
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.methods.conftest import MakeCell, MakeMethod, as_teacher, network
from tests.methods.laws import G3_STUDENT, G3_TEACHER, LossLaws, laws_of
from tests.methods.two_steps import student_gradients, two_steps
from vitkd_bench.contracts import Batch, CellFacts
from vitkd_bench.methods.lift import Lift, lift_loss
from vitkd_bench.networks import ViTNetwork
from vitkd_bench.networks.export import load_student
from vitkd_bench.registry import METHODS, RECIPES, TEACHERS
from vitkd_bench.spec import SIZES, BadInputError, MethodUse, ResolvedDataset, Run

test_the_laws_hold = laws_of({"plain": LossLaws(lift_loss, G3_STUDENT, G3_TEACHER)})


@pytest.fixture
def cell(make_cell: MakeCell) -> CellFacts:
    """A student 32 wide and three blocks deep under a teacher 48 wide and four deep."""
    return make_cell("micro/deit", TEACHERS.get("micro/deit").architecture.with_(size=SIZES["micro_small"]))


def lifted(
    cell: CellFacts, digits: ResolvedDataset, make_method: MakeMethod, **settings_: Any
) -> tuple[Lift, ViTNetwork]:
    """Make the method and a student that has taken its lift."""
    method = make_method("lift", cell, **settings_)
    assert isinstance(method, Lift)
    student = network(cell.student, digits)
    method.fit(student, None, [])
    return method, student


def drawn_teacher(cell: CellFacts, digits: ResolvedDataset) -> ViTNetwork:
    """Draw the teacher of a cell."""
    assert cell.teacher_architecture is not None
    return as_teacher(network(cell.teacher_architecture, digits, seed=4))


def test_it_has_its_golden_value() -> None:
    """Squares of G3's differences sum to 9 over 16 elements."""
    assert lift_loss(G3_STUDENT, G3_TEACHER).item() == pytest.approx(9 / 16, abs=1e-12)


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_it_is_its_definition(batch: int, patches: int, width: int, seed: int) -> None:
    """The mean square over every element; the order of patches and channels is any, if it is one order."""
    generator = torch.Generator().manual_seed(seed)
    s, t = (torch.randn(batch, patches, width, dtype=torch.float64, generator=generator) for _ in range(2))
    terms = [(a - b) ** 2 for a, b in zip(s.flatten().tolist(), t.flatten().tolist(), strict=True)]
    assert lift_loss(s, t).item() == pytest.approx(sum(terms) / len(terms), abs=1e-12)
    assert lift_loss(s.flip(1, 2), t.flip(1, 2)).item() == pytest.approx(lift_loss(s, t).item(), abs=1e-12)


def test_the_order_of_one_sides_channels_matters() -> None:
    """A channel of the student means the teacher's of the same number."""
    assert lift_loss(G3_STUDENT.flip(-1), G3_TEACHER).item() != pytest.approx(9 / 16)


def test_the_student_pools_lifted_patches(
    batch: Batch, digits: ResolvedDataset, cell: CellFacts, make_method: MakeMethod
) -> None:
    """Its logits are those of a head on the mean of projected and normalised patch tokens."""
    _, student = lifted(cell, digits, make_method)
    with torch.no_grad():
        found = student.eval()(batch.pixels, frozenset({"tokens/2"}))
    state = student.module.state_dict()
    assert set(state) - set(network(cell.student, digits).module.state_dict()) == {
        "lift.projection.weight",
        "lift.norm.weight",
        "lift.norm.bias",
    }
    assert not any(name.startswith("fc_norm") for name in state)
    patches = found.tokens[2][:, cell.student.prefix :] @ state["lift.projection.weight"].T
    centred = patches - patches.mean(-1, keepdim=True)
    pooled = (centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()).mean(1)
    torch.testing.assert_close(found.pooled, pooled, atol=1e-4, rtol=1e-4)
    expected = pooled @ state["head.weight"].T + state["head.bias"]
    torch.testing.assert_close(found.logits, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["lift", "widelast"])
def test_the_released_student_decides_by_its_class_token(
    batch: Batch, digits: ResolvedDataset, cell: CellFacts, make_method: MakeMethod, name: str
) -> None:
    """Its weights are those of one that pools patches; it reads the class token, lifted or normalised."""
    students = {}
    for pool in ("patches", "class"):
        torch.manual_seed(5)
        method = make_method(name, cell, pool=pool)
        students[pool] = network(cell.student, digits)
        method.fit(students[pool], None, [])
    states = [student.module.state_dict() for student in students.values()]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    with torch.no_grad():
        found = students["class"].eval()(batch.pixels, frozenset({"tokens/2"}))
        last = "lift" if name == "lift" else "fc_norm"
        expected = students["class"].module.get_submodule(last)(found.tokens[2][:, 0])
        other = students["patches"].eval()(batch.pixels)
    torch.testing.assert_close(found.pooled, expected)
    assert found.logits is not None
    assert other.logits is not None
    assert not torch.allclose(found.logits, other.logits)


@pytest.mark.parametrize("name", ["lift", "widelast"])
def test_without_a_class_token_it_cannot_decide_by_it(cell: CellFacts, name: str) -> None:
    """Refused in one sentence; the mean of patches is there."""
    entry = METHODS.get(name)
    bare = replace(cell, student=cell.student.with_(class_token=False))
    why = entry.refuses(entry.method.Config.parse({"pool": "class"}), bare)
    assert why == f"{name} with pool class reads the student's class token, and it has none"
    assert entry.refuses(entry.method.Config(), bare) is None


def test_its_parts(batch: Batch, digits: ResolvedDataset, cell: CellFacts, make_method: MakeMethod) -> None:
    """Shares of labels and kd, and the weighted square of lifted tokens less the teacher's."""
    method, student = lifted(cell, digits, make_method, kd=0.25, weight=0.5)
    teacher = drawn_teacher(cell, digits)
    assert method.teacher_taps() == {"tokens/3", "logits"}
    seen = teacher(batch.pixels, method.teacher_taps())
    parts = method.step(student.train(), seen, batch)
    kept: list[Tensor] = []
    student.module.get_submodule("lift").register_forward_hook(lambda _module, _given, out: kept.append(out))
    logits = student(batch.pixels).logits
    assert logits is not None
    torch.testing.assert_close(
        parts["labels"], 0.75 * F.cross_entropy(logits, batch.labels, label_smoothing=0.1)
    )
    assert seen.logits is not None
    kl = F.kl_div(logits.log_softmax(1), seen.logits.softmax(1), reduction="batchmean")
    torch.testing.assert_close(parts["kd"], 0.25 * kl)
    difference = kept[0] - seen.tokens[3][:, 1:]
    torch.testing.assert_close(parts["lift"], 0.5 * difference.square().mean())


def test_the_loss_reaches_lift_and_blocks_and_all_moves(
    batch: Batch, digits: ResolvedDataset, cell: CellFacts, make_method: MakeMethod
) -> None:
    """The features' part reaches every block and not the head; an optimiser of it trains the lift."""
    method, student = lifted(cell, digits, make_method)
    teacher = drawn_teacher(cell, digits)
    parts = method.step(student, teacher(batch.pixels, method.teacher_taps()), batch)
    found = student_gradients(parts["lift"], student)
    assert not any(name.startswith("head") for name in found)
    assert all(found[f"blocks.{i}.mlp.fc2.weight"] > 0 for i in range(3))
    before = {name: p.detach().clone() for name, p in student.module.named_parameters()}
    two_steps(method, student, teacher, batch)
    after = dict(student.module.named_parameters())
    new = [name for name in before if name.startswith(("lift.", "head."))]
    assert len(new) == 5
    assert all(not torch.equal(before[name], after[name]) for name in new)


def test_the_control_is_the_same_student_on_labels_alone(
    batch: Batch, digits: ResolvedDataset, cell: CellFacts, make_method: MakeMethod
) -> None:
    """Drawn from one state both are the same student; the control reads no tap and has no other part."""
    students = []
    for target in ("teacher", "none"):
        torch.manual_seed(5)
        method, student = lifted(cell, digits, make_method, target=target)
        students.append(student.module.state_dict())
    assert all(torch.equal(students[0][name], students[1][name]) for name in students[0])
    assert (method.teacher_taps(), method.student_taps()) == (frozenset(), frozenset())
    parts = method.step(student.train(), None, batch)
    logits = student(batch.pixels).logits
    assert logits is not None
    assert set(parts) == {"labels"}
    torch.testing.assert_close(parts["labels"], F.cross_entropy(logits, batch.labels, label_smoothing=0.1))


@pytest.mark.parametrize("also", [{"kd": 0.5}, {"weight": 1.0}])
@pytest.mark.parametrize("name", ["lift", "widelast"])
def test_a_control_with_settings_of_the_teacher_is_refused(name: str, also: dict[str, float]) -> None:
    """What the control would not use is an error of its field."""
    config = METHODS.get(name).method.Config
    with pytest.raises(BadInputError, match="here: target: none reads no teacher: leave out weight and kd"):
        config.parse({"target": "none", **also}, "here")


def test_it_says_what_it_adds(digits: ResolvedDataset, cell: CellFacts, make_method: MakeMethod) -> None:
    """32 x 48 of the map, two vectors of its norm, 16 more inputs of each of ten classes, no last norm."""
    method, student = lifted(cell, digits, make_method)
    plain = network(cell.student, digits)
    added = 32 * 48 + 2 * 48 + 16 * 10 - 2 * 32
    assert sum(p.numel() for p in student.parameters()) - sum(p.numel() for p in plain.parameters()) == added
    told = f"the student lifts its last tokens to 48 channels, {added} weights more than a plain one"
    assert method.notes() == (f"{told}; compare it with lift under target: none",)


def test_it_is_no_plain_student(
    tmp_path: Any, digits: ResolvedDataset, cell: CellFacts, make_method: MakeMethod
) -> None:
    """Its weights load into a student lifted alike alone, and `export` refuses them by name."""
    _, student = lifted(cell, digits, make_method)
    kept = student.module.state_dict()
    with pytest.raises(RuntimeError, match="Unexpected key"):
        network(cell.student, digits).module.load_state_dict(kept)
    _, other = lifted(cell, digits, make_method)
    other.module.load_state_dict(kept)
    safetensors.torch.save_file(kept, tmp_path / "kept.safetensors")
    use = MethodUse(name="lift", version=1)
    recipe = RECIPES.get("micro_short")
    run = Run(student=cell.student, method=use, dataset=digits, recipe=recipe, seed=0)
    with pytest.raises(
        BadInputError, match=r"more than a student: lift\.norm\.bias.*no timm model has these"
    ):
        load_student(run, tmp_path / "kept.safetensors")


def test_equal_widths_are_lifted_and_a_wider_student_is_refused(
    digits: ResolvedDataset, make_cell: MakeCell, make_method: MakeMethod
) -> None:
    """A square map where the widths are equal; a student of 64 channels has nothing to be lifted to."""
    method, student = lifted(make_cell("micro/mae", "standard"), digits, make_method)
    assert student.module.get_parameter("lift.projection.weight").shape == (48, 48)
    assert method.teacher_taps() == {"tokens/3"}
    entry = METHODS.get("lift")
    wide = make_cell("micro/deit", TEACHERS.get("micro/deit").architecture.with_(size=SIZES["micro_large"]))
    why = entry.refuses(entry.method.Config(), wide)
    assert str(why).startswith("widths: student 64, teacher 48; lift makes")
    coarse = make_cell("micro/deit", TEACHERS.get("micro/deit").architecture.with_(patch=4))
    assert "grids of patches differ" in str(entry.refuses(entry.method.Config(), coarse))
