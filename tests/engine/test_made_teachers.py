"""Teachers that runs make: assistants, earlier generations, probes."""

import json

import pytest
import safetensors.torch
import torch
from torch import Tensor

from tests.engine.conftest import QUICK, PlanOf
from vitkd_bench.engine import PackOptions, run_pack
from vitkd_bench.networks import load_teacher
from vitkd_bench.pipeline import eval_batches, open_splits
from vitkd_bench.records import Preparations, Store
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import Plan, Run

SUITE = f"""suite: made
version: 1
datasets: [digits]
extensions: [{QUICK}]
recipe: {{base: quick, epochs: 1}}
teachers: [quick/deit, {{name: quick/dinov2, head: probe}}]
students: [standard]
methods: [none, kd, takd, {{name: ban, generations: 2}}, tfkd_self]
seeds: [0]
"""


def run_all(plan: Plan, store: Store, preparations: Preparations) -> None:
    """Train every pack in the plan's order."""
    for pack in plan.packs:
        run_pack(plan, pack, store, preparations, PackOptions())


@pytest.fixture(scope="module")
def done(
    plan_of: PlanOf, preparations: Preparations, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Plan, Store]:
    """The suite, run."""
    plan, store = plan_of(text=SUITE), Store(tmp_path_factory.mktemp("made"))
    run_all(plan, store, preparations)
    return plan, store


def cell_run(plan: Plan, teacher: str, method: str) -> Run:
    """Give the run of a cell at seed 0."""
    found = next(c for c in plan.cells if (c.teacher, c.method) == (teacher, method))
    return plan.runs[found.runs["0"]]


def test_every_run_is_done_and_trained_once(done: tuple[Plan, Store], preparations: Preparations) -> None:
    """A run that is a cell's own and another's teacher has one pack, a full record, and kept weights."""
    plan, store = done
    trained = [run for pack in plan.packs for run in pack.runs]
    assert len(trained) == len(set(trained)) == len(plan.all_runs())
    for id_ in plan.runs:
        record = store.read(id_)
        assert record is not None
        assert record.status == "done"
        assert {"val", "test"} < set(record.metrics)
    shared = set(plan.runs) & set(plan.preparations)
    assert cell_run(plan, "quick/deit", "none").id in shared
    assert cell_run(plan, "quick/deit", "kd").id in shared
    for id_ in shared:
        record, kept = store.read(id_), preparations.ready(id_)
        assert record is not None
        assert kept is not None
        assert record.weights_sha256 == kept.weights_sha256


def test_a_second_launch_does_nothing(done: tuple[Plan, Store], preparations: Preparations) -> None:
    """All is there; but a record that is missing is made again although its weights are kept."""
    plan, store = done
    before = {path: path.stat().st_mtime_ns for path in store.folder.rglob("*.json")}
    run_all(plan, store, preparations)
    assert {path: path.stat().st_mtime_ns for path in store.folder.rglob("*.json")} == before
    none = cell_run(plan, "quick/deit", "none").id
    first = store.read(none)
    path = next(store.folder.rglob(f"records/{none}.json"))
    path.unlink()
    again = Store(store.folder)
    run_all(plan, again, preparations)
    second = again.read(none)
    assert first is not None
    assert second is not None
    assert second.result() == first.result()


def test_what_reads_no_teacher_of_the_cell_is_one_run(done: tuple[Plan, Store]) -> None:
    """An earlier self is the same whatever the cell's teacher, and its record names no teacher."""
    plan, store = done
    for method in ("ban", "tfkd_self"):
        assert cell_run(plan, "quick/deit", method).id == cell_run(plan, "quick/dinov2", method).id
        record = store.read(cell_run(plan, "quick/deit", method).id)
        assert record is not None
        assert record.cell.teacher is None
        assert record.facts["teacher"] is None
    assert cell_run(plan, "quick/deit", "takd").id != cell_run(plan, "quick/dinov2", "takd").id


def test_generations_are_preparations_of_one_another(done: tuple[Plan, Store]) -> None:
    """The second generation reads the first, which reads the run of labels alone."""
    plan, _ = done
    second = cell_run(plan, "quick/deit", "ban")
    assert second.teacher is not None
    first = plan.preparations[second.teacher.preparation or ""]
    assert first.method.name == "ban"
    assert first.teacher is not None
    labels = plan.preparations[first.teacher.preparation or ""]
    assert labels.method.name == "none"
    assert labels.id == cell_run(plan, "quick/deit", "none").id


def test_the_assistant_is_the_network_that_kd_trained(
    done: tuple[Plan, Store], preparations: Preparations
) -> None:
    """Its record says whose weights taught the student, apart from those of the registry's teacher."""
    plan, store = done
    run = cell_run(plan, "quick/deit", "takd")
    assert run.teacher is not None
    assistant = plan.preparations[run.teacher.preparation or ""]
    assert assistant.method.name == "kd"
    record = store.read(run.id)
    kept = preparations.ready(assistant.id)
    assert record is not None
    assert kept is not None
    assert record.provenance["teacher_made_sha256"] == kept.weights_sha256
    assert record.provenance["teacher_weights_sha256"] is None
    assert record.metrics["test"]["agreement"] > 0


def probe_of(plan: Plan, method: str) -> tuple[str, Run]:
    """Give the id of the probe that a method reads, and its run."""
    use = cell_run(plan, "quick/dinov2", method).teacher
    assert use is not None
    id_ = (use.head_pin or "").removeprefix("run:")
    return id_, plan.preparations[id_]


def test_a_probe_gives_a_headless_teacher_its_logits(
    done: tuple[Plan, Store], preparations: Preparations
) -> None:
    """Its accuracy stands in its record and is what the teacher's own features give, recomputed by hand."""
    plan, store = done
    id_, run = probe_of(plan, "kd")
    record = preparations.ready(id_)
    assert record is not None
    assert record.metrics["val"]["top1"] > 0.5
    assert record.cell.method == "linear_probe"
    assert record.baseline is None
    assert probe_top1(run, preparations) == pytest.approx(record.metrics["val"]["top1"], abs=1e-9)
    kd = store.read(cell_run(plan, "quick/dinov2", "kd").id)
    assert kd is not None
    assert kd.provenance["teacher_probe_sha256"] == record.weights_sha256
    assert kd.metrics["test"]["agreement"] > 0


def probe_top1(run: Run, preparations: Preparations, crop: float = 1.0) -> float:
    """Score a probe on val by hand, the middle `crop` of each image being shown."""
    assert run.teacher is not None
    assert run.teacher.preparation is not None
    teacher = TEACHERS.get("quick/dinov2")
    assert teacher.head is None
    network = load_teacher(teacher, teacher.architecture, preparations.weights(run.teacher.preparation))
    head = safetensors.torch.load_file(preparations.weights(run.id))
    val = open_splits(run.dataset, (), 8, crop=crop).val
    right = 0
    for batch in eval_batches(val, 256):
        logits = pooled(network, batch.pixels) @ head["weight"].T + head["bias"]
        right += int(logits.argmax(1).eq(batch.labels).sum())
    return right / len(val)


def test_a_probe_is_shown_what_the_cell_evaluates(
    plan_of: PlanOf, preparations: Preparations, store: Store
) -> None:
    """With another crop at evaluation it is another probe, and val is scored as the cells will see it."""
    text = SUITE[: SUITE.index("methods:")] + "methods: [kd]\nseeds: [0]\n"
    whole, cropped = plan_of(text=text), plan_of("recipe.eval_crop=0.75", text=text)
    id_, run = probe_of(cropped, "kd")
    assert id_ != probe_of(whole, "kd")[0]
    (pack,) = (pack for pack in cropped.packs if id_ in pack.runs)
    run_pack(cropped, pack, store, preparations, PackOptions())
    record = preparations.ready(id_)
    assert record is not None
    top1 = record.metrics["val"]["top1"]
    assert probe_top1(run, preparations, 0.75) == pytest.approx(top1, abs=1e-9)
    assert probe_top1(run, preparations) != pytest.approx(top1, abs=1e-9)


def pooled(network: object, pixels: Tensor) -> Tensor:
    """Give a network's pooled features."""
    found: Tensor = network(pixels, frozenset({"pooled"})).pooled  # type: ignore[operator]
    return found


def test_a_probe_is_in_the_id_of_what_reads_it(plan_of: PlanOf) -> None:
    """`kd` reads the probe; attention copy does not, and keeps its id; a teacher without one is refused."""
    text = SUITE[: SUITE.index("methods:")] + "methods: [kd, attn_copy]\nseeds: [0]\n"
    probed, plain = plan_of(text=text), plan_of(text=text.replace(", head: probe", ""))
    assert cell_run(probed, "quick/dinov2", "attn_copy").id == cell_run(plain, "quick/dinov2", "attn_copy").id
    (refusal,) = plain.refusals
    assert refusal.reason.endswith("; head: probe at the teacher fits one to the data")
    use = cell_run(probed, "quick/dinov2", "kd").teacher
    assert use is not None
    assert use.head_pin is not None
    declared = json.dumps(use.declared_as("pin"))
    assert use.head_pin in declared


def test_a_probe_is_refused_as_a_method(plan_of: PlanOf) -> None:
    """No suite trains a probe for its own sake."""
    from vitkd_bench.spec import BadInputError

    with pytest.raises(BadInputError, match="'linear_probe' makes the head of a teacher; say head: probe"):
        plan_of(text=SUITE.replace("tfkd_self]", "linear_probe]"))


def test_an_attached_probe_replaces_the_head() -> None:
    """Logits come from the probe on pooled features also where the network has a head of its own."""
    from vitkd_bench.networks import ViT, ViTNetwork
    from vitkd_bench.spec import BadInputError

    teacher = TEACHERS.get("micro/deit")
    torch.manual_seed(0)
    network = ViTNetwork(ViT(teacher.architecture, 10), teacher.architecture, teacher.pixels, frozen=True)
    pixels = torch.rand(3, 1, 8, 8)
    weight, bias = torch.randn(4, 48), torch.randn(4)
    network.attach_probe(weight, bias)
    given = network(pixels, frozenset({"logits"}))
    assert given.logits is not None
    torch.testing.assert_close(given.logits, pooled(network, pixels) @ weight.T + bias)
    assert not any(p.requires_grad for p in network.parameters())
    with pytest.raises(BadInputError, match="width 7 on features of 48"):
        network.attach_probe(torch.randn(4, 7), bias)
