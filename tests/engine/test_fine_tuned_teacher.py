"""Teachers that are fine-tuned on the cell's data first: runs with records, read like any other teacher."""

import pytest

from tests.engine.conftest import QUICK, PlanOf
from vitkd_bench.engine import PackOptions, run_pack
from vitkd_bench.records import Preparations, Store
from vitkd_bench.spec import Plan, Run

SUITE = f"""suite: tuned
version: 1
datasets: [digits]
extensions: [{QUICK}]
recipe: {{base: quick, epochs: 2}}
teachers: [quick/dinov2]
students: [standard@micro_small]
methods:
  - {{name: remem, as: ours}}
  - {{name: remem, as: short, rho: 0.0, gamma: 1.0, teacher_epochs: 1}}
  - {{name: remem, as: hotter, rho: 0.0, gamma: 1.0, teacher_epochs: 1, temperature: 4.0}}
seeds: [0]
"""


@pytest.fixture(scope="module")
def done(
    plan_of: PlanOf, preparations: Preparations, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Plan, Store]:
    """The suite, run."""
    plan, store = plan_of(text=SUITE), Store(tmp_path_factory.mktemp("tuned"))
    for pack in plan.packs:
        run_pack(plan, pack, store, preparations, PackOptions())
    return plan, store


def run_of(plan: Plan, method: str) -> Run:
    """Give the run of a cell at seed 0."""
    return plan.runs[next(c for c in plan.cells if c.method == method).runs["0"]]


def teacher_of(plan: Plan, method: str) -> Run:
    """Give the run that makes the teacher which a method reads."""
    use = run_of(plan, method).teacher
    assert use is not None
    return plan.preparations[use.preparation or ""]


def test_the_teacher_is_a_run_of_its_own(done: tuple[Plan, Store], preparations: Preparations) -> None:
    """Of the teacher's architecture, from its weights, with an accuracy in its record and a note of gamma."""
    plan, _ = done
    tuned = teacher_of(plan, "ours")
    assert tuned.method.name == "finetune_sam"
    assert tuned.method.settings == {"gamma": 0.5}
    assert tuned.student.size.depth == 4
    assert run_of(plan, "ours").student.size != tuned.student.size
    record = preparations.ready(tuned.id)
    assert record is not None
    assert 0 < record.metrics["val"]["top1"] < 1
    assert record.curve[1]["loss/labels"] < record.curve[0]["loss/labels"]
    assert record.cell.teacher == "quick/dinov2"
    assert "the mlp of blocks 3 is scaled by 0.5 throughout" in record.notes
    assert any("weights of the teacher" in note for note in record.notes)


def test_students_read_the_tuned_teacher(done: tuple[Plan, Store], preparations: Preparations) -> None:
    """A headless teacher has logits by it; the record says how soft they are, and whose weights taught."""
    plan, store = done
    for method in ("ours", "short", "hotter"):
        record = store.read(run_of(plan, method).id)
        kept = preparations.ready(teacher_of(plan, method).id)
        assert record is not None
        assert kept is not None
        assert record.status == "done"
        assert record.metrics["test"]["agreement"] > 0
        assert record.provenance["teacher_made_sha256"] == kept.weights_sha256
        assert any("entropy on training images" in note for note in record.notes)


def test_a_control_is_a_setting(done: tuple[Plan, Store]) -> None:
    """A plainly tuned teacher, stopped early, is shared by all temperatures; it is another than ours."""
    plan, _ = done
    short = teacher_of(plan, "short")
    assert short.id == teacher_of(plan, "hotter").id != teacher_of(plan, "ours").id
    assert (short.recipe.epochs, teacher_of(plan, "ours").recipe.epochs) == (1, 2)
    assert short.method.settings == {"rho": 0.0}
