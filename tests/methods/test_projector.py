from functools import partial

import numpy as np
import pytest
import torch

from tests.methods.conftest import MakeCell, MakeMethod, as_teacher, network
from tests.methods.laws import G3_STUDENT, G3_TEACHER, LossLaws, laws_of
from tests.methods.two_steps import student_gradients, two_steps
from vitkd_bench.contracts import Batch
from vitkd_bench.methods.projector import projector_loss
from vitkd_bench.spec import ResolvedDataset

test_the_laws_hold = laws_of(
    {
        "plain": LossLaws(projector_loss, G3_STUDENT, G3_TEACHER),
        # a token of the teacher that is already normalised is the floor's place, so none is claimed
        "layer": LossLaws(partial(projector_loss, norm="layer"), G3_STUDENT, G3_TEACHER, floor=None),
        "batch": LossLaws(partial(projector_loss, norm="batch"), G3_STUDENT, G3_TEACHER),
    }
)


def test_the_golden_value() -> None:
    """G3, equal widths and no projector: plain mean squared error."""
    assert projector_loss(G3_STUDENT, G3_TEACHER).item() == pytest.approx(0.5625, abs=1e-12)


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
def test_against_numpy(norm: str) -> None:
    """Each norm, written out: over channels of one token of the teacher, or over all tokens on both sides."""
    generator = torch.Generator().manual_seed(3)
    s, t = (torch.randn(3, 5, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    a, b = s.numpy(), t.numpy()
    if norm == "layer":
        b = (b - b.mean(-1, keepdims=True)) / np.sqrt(b.var(-1, keepdims=True) + 1e-5)
    if norm == "batch":
        a, b = ((x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + 1e-5) for x in (a, b))
    expected = ((a - b) ** 2).sum() / a.size
    found = projector_loss(s, t, norm)  # type: ignore[arg-type]
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_layer_norm_forgets_scale_and_shift_of_a_teachers_token() -> None:
    """Any a t + b with a > 0 is the same target under layer, and another one under none."""
    changed = 3 * G3_TEACHER.repeat(1, 1, 4) + 7
    student = G3_STUDENT.repeat(1, 1, 4)
    plain = projector_loss(student, G3_TEACHER.repeat(1, 1, 4), "layer").item()
    assert projector_loss(student, changed, "layer").item() == pytest.approx(plain, abs=1e-3)
    assert projector_loss(student, changed).item() > 1


def test_the_projector_is_trained(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """Every projector has moved after two steps: none is made after the optimiser, none is left out."""
    cell = make_cell("micro/deit", "standard")
    assert cell.teacher_architecture is not None
    student = network(cell.student, digits)
    teacher = as_teacher(network(cell.teacher_architecture, digits, seed=4))
    method = make_method("projector", cell, layers=[0, 3])
    steps = two_steps(method, student, teacher, batch)
    assert steps.moved == {f"projectors.{i}.{part}" for i in (0, 3) for part in ("weight", "bias")}
    assert not steps.still
    assert steps.parts[1]["projector"] < steps.parts[0]["projector"]


def test_an_early_block_leaves_later_ones_alone(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """A hint at block 1 has gradients in blocks 0 and 1 and in none behind them."""
    cell = make_cell("micro/deit", "standard")
    assert cell.teacher_architecture is not None
    student = network(cell.student, digits)
    teacher = as_teacher(network(cell.teacher_architecture, digits, seed=4))
    method = make_method("projector", cell, layers=[1])
    seen = teacher(batch.pixels, method.teacher_taps())
    assert set(seen.tokens) == {1}
    assert seen.logits is None
    found = student_gradients(method.step(student, seen, batch)["projector"], student)
    assert {name.split(".")[1] for name in found if name.startswith("blocks.")} == {"0", "1"}
    assert all(value > 0 for name, value in found.items() if name.endswith("mlp.fc2.weight"))
