from functools import partial

import pytest

from tests.methods.conftest import MakeCell
from tests.methods.laws import G1_LABELS, G1_STUDENT, G1_TEACHER, LossLaws, laws_of
from vitkd_bench.methods.none import none_loss
from vitkd_bench.methods.takd import between, takd_loss
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import SIZES, BadInputError

test_the_laws_hold = laws_of(
    {
        "T=1": LossLaws(takd_loss, G1_STUDENT, G1_TEACHER),
        "T=4": LossLaws(partial(takd_loss, temperature=4.0), G1_STUDENT, G1_TEACHER),
        "one class": LossLaws(takd_loss, G1_STUDENT[:, :1], G1_TEACHER[:, :1]),
    }
)


def test_a_hop_has_its_golden_value() -> None:
    """Half labels, half T^2 KL at temperature 4, on the golden tensors."""
    value = 0.5 * none_loss(G1_STUDENT, G1_LABELS) + 0.5 * takd_loss(G1_STUDENT, G1_TEACHER, 4.0)
    assert value.item() == pytest.approx(0.5112003459, abs=1e-9)


def test_the_assistant_stands_between_the_two() -> None:
    """Between ViT-Ti and ViT-B it has half-way heads and depth and the student's head width."""
    size = between(SIZES["ti"], SIZES["b"])
    assert (size.heads, size.width, size.depth) == (8, 512, 12)
    assert between(SIZES["s"], SIZES["l"]).depth == 18
    assert between(SIZES["s"], SIZES["s"]) == SIZES["s"]


def test_the_assistant_learns_from_the_cells_teacher(make_cell: MakeCell) -> None:
    """Its run is `kd` under the same settings, into the student's components at the assistant's size."""
    entry = METHODS.get("takd")
    cell = make_cell("micro/deit", "standard")
    config = entry.method.Config.parse({"assistant": "micro_large", "alpha": 0.7})
    asked = entry.method.teacher_run(config, cell)
    assert asked is not None
    assert asked.student is not None
    assert (asked.method, asked.reads, asked.settings["alpha"]) == ("kd", "cell", 0.7)
    assert asked.student.size == SIZES["micro_large"]
    assert asked.student.components == cell.student.components
    with pytest.raises(BadInputError, match="assistant: expected between or a size"):
        entry.method.Config.parse({"assistant": "huge"})
