from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm.models.vision_transformer
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.methods.conftest import MakeCell, MakeMethod, as_teacher, network
from tests.methods.laws import G3_STUDENT, G3_TEACHER, LossLaws, laws_of
from tests.methods.two_steps import student_gradients, two_steps
from vitkd_bench.contracts import Batch, CellFacts
from vitkd_bench.methods.widelast import WideLast, widelast_loss
from vitkd_bench.networks import ViTNetwork, create_student
from vitkd_bench.networks.export import load_student
from vitkd_bench.registry import METHODS, RECIPES, TEACHERS
from vitkd_bench.spec import SIZES, BadInputError, MethodUse, ResolvedDataset, Run, Size

test_the_laws_hold = laws_of({"plain": LossLaws(widelast_loss, G3_STUDENT, G3_TEACHER)})
BLOCK = "blocks.2."


@pytest.fixture
def cell(make_cell: MakeCell) -> CellFacts:
    """A student 32 wide and three blocks deep under a teacher 48 wide and four deep."""
    return make_cell("micro/deit", TEACHERS.get("micro/deit").architecture.with_(size=SIZES["micro_small"]))


def widened(
    cell: CellFacts, digits: ResolvedDataset, make_method: MakeMethod, **settings_: Any
) -> tuple[WideLast, ViTNetwork]:
    """Make the method and a student that has taken its wide block."""
    method = make_method("widelast", cell, **settings_)
    assert isinstance(method, WideLast)
    student = network(cell.student, digits)
    method.fit(student, None, [])
    return method, student


def test_it_has_its_golden_value() -> None:
    """Squares of G3's differences sum to 9 over 16 elements."""
    assert widelast_loss(G3_STUDENT, G3_TEACHER).item() == pytest.approx(9 / 16, abs=1e-12)


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_it_is_its_definition(batch: int, patches: int, width: int, seed: int) -> None:
    """The squared norm of the difference over the number of elements."""
    generator = torch.Generator().manual_seed(seed)
    s, t = (torch.randn(batch, patches, width, dtype=torch.float64, generator=generator) for _ in range(2))
    expected = np.linalg.norm((s - t).numpy().ravel()) ** 2 / (batch * patches * width)
    assert widelast_loss(s, t).item() == pytest.approx(expected, abs=1e-12)


def test_the_last_block_is_a_wide_one(
    batch: Batch, digits: ResolvedDataset, cell: CellFacts, make_method: MakeMethod
) -> None:
    """From the tokens before it on a student is a projection, a norm, timm's block of 48, norm and head."""
    _, student = widened(cell, digits, make_method)
    state = student.module.state_dict()
    reference = timm.models.vision_transformer.Block(48, 3, qkv_bias=True)
    names = {name.removeprefix(BLOCK): tensor for name, tensor in state.items() if name.startswith(BLOCK)}
    reference.load_state_dict({name: t for name, t in names.items() if not name.startswith("widening")})
    for norm in (reference.norm1, reference.norm2):
        norm.eps = 1e-6
    with torch.no_grad():
        found = student.eval()(batch.pixels, frozenset({"tokens/1", "tokens/2"}))
        wide = F.layer_norm(found.tokens[1] @ names["widening.projection.weight"].T, (48,), eps=1e-6)
        tokens = reference.eval()(wide)
        pooled = F.layer_norm(tokens[:, cell.student.prefix :].mean(1), (48,), eps=1e-6)
    assert found.tokens[1].shape[-1] == 32
    torch.testing.assert_close(found.tokens[2], tokens, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.pooled, pooled, atol=1e-4, rtol=1e-4)
    expected = pooled @ state["head.weight"].T + state["head.bias"]
    torch.testing.assert_close(found.logits, expected, atol=1e-4, rtol=1e-4)


def test_drop_path_of_the_last_block_stays(digits: ResolvedDataset, cell: CellFacts) -> None:
    """The rate of the block that was there is that of the wide one."""
    student = create_student(cell.student, 10, digits.pixels, 0, drop_path=0.3)
    student.widen(48, 1, last_block=True)
    rates = [getattr(student.blocks[i].get_submodule("drop_path2"), "drop_prob", 0.0) for i in range(3)]
    assert rates == pytest.approx([0, 0.15, 0.3])


def test_its_parts_and_whom_they_reach(
    batch: Batch, digits: ResolvedDataset, cell: CellFacts, make_method: MakeMethod
) -> None:
    """Label loss, and the weighted square of the last tokens, which reaches every block and not the head."""
    method, student = widened(cell, digits, make_method)
    assert cell.teacher_architecture is not None
    teacher = as_teacher(network(cell.teacher_architecture, digits, seed=4))
    assert method.teacher_taps() == {"tokens/3"}
    seen = teacher(batch.pixels, method.teacher_taps())
    parts = method.step(student.train(), seen, batch)
    with torch.no_grad():
        found = student(batch.pixels, frozenset({"tokens/2"}))
    assert found.logits is not None
    torch.testing.assert_close(
        parts["labels"], F.cross_entropy(found.logits, batch.labels, label_smoothing=0.1)
    )
    difference = found.tokens[2][:, 1:] - seen.tokens[3][:, 1:]
    torch.testing.assert_close(parts["widelast"], 0.2 * difference.square().mean())
    reached = student_gradients(parts["widelast"], student)
    assert not any(name.startswith(("head", "fc_norm")) for name in reached)
    assert all(reached[f"blocks.{i}.mlp.fc2.weight"] > 0 for i in range(3))
    before = {name: p.detach().clone() for name, p in student.module.named_parameters()}
    two_steps(method, student, teacher, batch)
    after = dict(student.module.named_parameters())
    new = [name for name in before if name.startswith((BLOCK, "head.", "fc_norm."))]
    assert len(new) == 12 + 3 + 4
    assert all(not torch.equal(before[name], after[name]) for name in new)


def test_the_control_reads_no_teacher(
    batch: Batch, digits: ResolvedDataset, cell: CellFacts, make_method: MakeMethod
) -> None:
    """The same wide student learns labels alone."""
    method, student = widened(cell, digits, make_method, target="none")
    assert (method.teacher_taps(), method.student_taps()) == (frozenset(), frozenset())
    parts = method.step(student.train(), None, batch)
    assert set(parts) == {"labels"}
    assert student.module.get_parameter("head.weight").shape == (10, 48)
    assert method.notes()[0].endswith("weights more than a plain one")


def test_it_says_what_it_adds(digits: ResolvedDataset, cell: CellFacts, make_method: MakeMethod) -> None:
    """The difference of two counts: 12 D^2 + 13 D of a block, its entrance, last norm and head."""
    method, student = widened(cell, digits, make_method)
    block = {width: 12 * width**2 + 13 * width for width in (32, 48)}
    added = block[48] - block[32] + 32 * 48 + 2 * 48 + 2 * 16 + 16 * 10
    assert method.added == added
    assert f"has a last block of 48 channels, {added} weights more" in method.notes()[0]
    plain = network(cell.student, digits)
    assert sum(p.numel() for p in student.parameters()) - sum(p.numel() for p in plain.parameters()) == added


def test_it_is_no_plain_student(
    tmp_path: Any, digits: ResolvedDataset, cell: CellFacts, make_method: MakeMethod
) -> None:
    """Its weights load into a student widened alike alone, and `export` refuses them by name."""
    _, student = widened(cell, digits, make_method)
    kept = student.module.state_dict()
    with pytest.raises(RuntimeError, match="Unexpected key"):
        network(cell.student, digits).module.load_state_dict(kept)
    _, other = widened(cell, digits, make_method)
    other.module.load_state_dict(kept)
    safetensors.torch.save_file(kept, tmp_path / "kept.safetensors")
    use = MethodUse(name="widelast", version=1)
    recipe = RECIPES.get("micro_short")
    run = Run(student=cell.student, method=use, dataset=digits, recipe=recipe, seed=0)
    with pytest.raises(BadInputError, match=r"more than a student: blocks\.2\.widening\.norm\.bias"):
        load_student(run, tmp_path / "kept.safetensors")


def test_what_cannot_be_widened_is_refused(make_cell: MakeCell) -> None:
    """A wider student, another grid, heads that do not fit; an equal width is widened by a square map."""
    entry = METHODS.get("widelast")
    plain = TEACHERS.get("micro/deit").architecture

    def why(**changes: Any) -> str | None:
        return entry.refuses(entry.method.Config(), make_cell("micro/deit", plain.with_(**changes)))

    assert str(why(size=SIZES["micro_large"])).startswith("widths: student 64, teacher 48; widelast makes")
    assert "grids of patches differ" in str(why(patch=4))
    assert "48 channels are no multiple of the student's 20 a head" in str(
        why(size=Size(width=40, depth=3, heads=2))
    )
    assert why() is None
