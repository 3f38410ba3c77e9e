"""Stored outputs of a teacher: made once, checked, read in its place."""

from dataclasses import replace

import pytest
import torch

from tests.engine.conftest import QUICK, PlanOf
from vitkd_bench.contracts import CellFacts
from vitkd_bench.contracts.taps import LOGITS
from vitkd_bench.engine import Interrupted, PackOptions, run_pack
from vitkd_bench.engine.setting import Setting, settle
from vitkd_bench.engine.stored import Outputs, read_stored
from vitkd_bench.engine.teacher import read_teacher
from vitkd_bench.methods.ban import ban_loss
from vitkd_bench.networks import ViTNetwork
from vitkd_bench.pipeline import TrainStream
from vitkd_bench.records import Preparations, Store
from vitkd_bench.spec import BadInputError, Pack, Plan, Run, WorldError

SUITE = f"""suite: stored
version: 1
datasets: [digits]
extensions: [{QUICK}]
recipe: {{base: quick, epochs: 2, augmentation: {{shift: 1, noise: 0.1}}}}
teachers: [quick/deit, {{name: quick/dinov2, head: probe}}]
students: [standard, native]
methods: [{{name: sparse_kd, as: all}}, {{name: sparse_kd, as: some, k: 3}}, funmatch]
seeds: [0]
"""
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def plan(plan_of: PlanOf) -> Plan:
    """The suite, planned."""
    return plan_of(text=SUITE)


@pytest.fixture(scope="module")
def made(plan: Plan, preparations: Preparations, tmp_path_factory: pytest.TempPathFactory) -> Preparations:
    """What the suite needs first, made."""
    store = Store(tmp_path_factory.mktemp("stored"))
    for pack in plan.packs:
        if pack.preparation:
            run_pack(plan, pack, store, preparations, PackOptions())
    return preparations


def run_of(plan: Plan, method: str = "all", teacher: str = "quick/deit", student: str = "standard") -> Run:
    """Give the run of a cell at seed 0."""
    wanted = (teacher, student, method)
    found = next(c for c in plan.cells if (c.teacher, c.student, c.method) == wanted)
    return plan.runs[found.runs["0"]]


def store_of(plan: Plan, run: Run) -> Run:
    """Give the run that stores what `run` reads."""
    assert run.teacher is not None
    return plan.preparations[run.teacher.preparation or ""]


def settled(plan: Plan, run: Run, made: Preparations) -> Setting:
    """Open a run's data and what it reads."""
    return settle(plan, [run], made, PackOptions())


def test_it_is_a_preparation_of_its_own(plan: Plan) -> None:
    """Planned once for all students of a teacher, after the teacher and its probe, one for each k."""
    kinds = [run.method.name for run in plan.preparations.values()]
    assert kinds.count("stored_outputs") == 4
    first, second = (store_of(plan, run_of(plan, student=s)) for s in ("standard", "native"))
    assert first.id == second.id
    probed = store_of(plan, run_of(plan, teacher="quick/dinov2")).teacher
    assert probed is not None
    assert probed.head == "probe"
    order = list(plan.preparations)
    assert all(order.index(need) < order.index(first.id) for need in (first.teacher or probed).preparations)


def test_its_record_says_how_much_is_kept(plan: Plan, made: Preparations) -> None:
    """k, bytes, and the share of the mass; all of it where every class is kept."""
    for method, k in (("all", 10), ("some", 3)):
        store = store_of(plan, run_of(plan, method))
        record = made.ready(store.id)
        assert record is not None
        metrics = record.metrics["train"]
        assert metrics["k"] == k
        assert metrics["bytes"] == made.weights(store.id).stat().st_size
        assert metrics["bytes"] >= metrics["n"] * k * 4
        assert f"the {k} largest of 10" in record.notes[0]
        assert record.baseline is None
        assert (metrics["kept_mass"] == pytest.approx(1, abs=1e-5)) == (k == 10)
        assert 3 / 10 < metrics["kept_mass"] <= 1 + 1e-5


@pytest.mark.parametrize("teacher", ["quick/deit", "quick/dinov2"])
def test_training_from_them_is_training_from_the_teacher(
    plan: Plan, made: Preparations, teacher: str
) -> None:
    """In every epoch the loss of a step is the soft cross-entropy to the living teacher, to float16."""
    run = run_of(plan, teacher=teacher)
    setting = settled(plan, run, made)
    live = read_teacher(plan, [store_of(plan, run)], made, CPU)
    assert live is not None
    classes = CellFacts(run.student, run.dataset, live.contract).teacher_classes
    assert classes is not None
    trainee = setting.fresh(run)
    for epoch in range(2):
        batch = TrainStream(setting.splits.train, run.recipe, run.seed, 1, epoch).batch(1)
        read = setting.read(batch, trainee.teacher_taps())
        own = trainee.network(batch.pixels)
        assert own.logits is not None
        given = live.network(batch.pixels, frozenset({LOGITS})).logits
        assert given is not None
        loss = trainee.method.loss(own, read, batch)["sparse_kd"]
        expected = ban_loss(own.logits, given[:, list(classes)])
        assert loss.item() == pytest.approx(expected.item(), rel=1e-3)
        # and not because any outputs would do
        other = setting.read(replace(batch, epoch=1 - epoch), trainee.teacher_taps())
        assert other is not None
        assert read is not None
        assert other.logits is not None
        assert read.logits is not None
        assert (other.logits.softmax(1) - read.logits.softmax(1)).abs().max() > 0.01
        torch.testing.assert_close(
            read.logits.softmax(1), given[:, list(classes)].softmax(1), atol=6e-4, rtol=0
        )


def test_no_teacher_is_loaded_and_none_runs(
    plan: Plan, made: Preparations, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No frozen network makes a forward; the record says why there is no agreement, and what was read."""
    run = run_of(plan)
    forward = ViTNetwork.forward
    frozen: list[bool] = []

    def noting(self: ViTNetwork, *given: object) -> object:
        frozen.append(self.frozen)
        return forward(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(ViTNetwork, "forward", noting)
    pack = next(pack for pack in plan.packs if run.id in pack.runs)
    assert run_of(plan, student="native").id in pack.runs
    run_pack(plan, pack, store, made, PackOptions())
    assert frozen
    assert not any(frozen)
    record = store.read(run.id)
    assert record is not None
    assert record.status == "done"
    assert record.cell.teacher == "quick/deit"
    assert record.facts["teacher"]["family"] == "deit"
    assert record.metrics["test"]["n"] == 450
    assert "agreement" not in record.metrics["test"]
    assert any("outputs of it were stored" in note for note in record.notes)
    kept = made.ready(store_of(plan, run).id)
    assert kept is not None
    assert record.provenance["teacher_outputs_sha256"] == kept.weights_sha256
    assert record.provenance["teacher_weights_sha256"] is None


def test_the_student_ends_as_under_the_living_teacher(plan: Plan, made: Preparations, store: Store) -> None:
    """`funmatch` has the same gradient: val ends as it does from all classes, not from three of ten."""
    likelihoods = {}
    for method in ("funmatch", "all", "some"):
        run = run_of(plan, method)
        run_pack(plan, Pack(id=method, runs=(run.id,)), store, made, PackOptions())
        record = store.read(run.id)
        assert record is not None
        likelihoods[method] = [entry["val_nll"] for entry in record.curve]
    assert likelihoods["all"] == pytest.approx(likelihoods["funmatch"], abs=1e-3)
    assert likelihoods["some"] != pytest.approx(likelihoods["funmatch"], abs=1e-3)


def test_another_stream_does_not_fit(plan: Plan, plan_of: PlanOf, made: Preparations) -> None:
    """Another seed has a store of its own, and a plan that names this one for it is refused."""
    run = run_of(plan)
    other = Run.parse({**run.plain(), "seed": 1})
    with pytest.raises(BadInputError, match="are of another stream: data set, recipe"):
        read_stored(plan, [other], made)
    assert read_stored(plan, [run], made) is not None
    text = SUITE.replace("seeds: [0]", "seeds: [1]")
    assert not {r.id for r in plan_of(text=text).preparations.values()} & {store_of(plan, run).id}


def test_what_is_not_there_is_an_error(plan: Plan, made: Preparations) -> None:
    """Another epoch, an image that its epoch leaves out, another reading than logits."""
    run = run_of(plan)
    setting = settled(plan, run, made)
    outputs = setting.stored
    assert isinstance(outputs, Outputs)
    stream = TrainStream(setting.splits.train, run.recipe, 0, 1, 0)
    batch = stream.batch(0)
    with pytest.raises(WorldError, match="holds no outputs of epoch 7"):
        outputs.read(replace(batch, epoch=7), frozenset({LOGITS}))
    with pytest.raises(BadInputError, match="'pooled': of this teacher nothing but logits"):
        outputs.read(batch, frozenset({LOGITS, "pooled"}))
    assert outputs.read(batch, frozenset({LOGITS})).logits is not None
    outputs._epoch = (0, torch.full((len(setting.splits.train), 10), torch.nan), outputs._of(0)[1])
    with pytest.raises(WorldError, match="epoch 0 lacks outputs of an image"):
        outputs.read(batch, frozenset({LOGITS}))


def test_a_damaged_store_counts_as_absent(plan: Plan, made: Preparations, store: Store) -> None:
    """A flipped byte is found by whoever opens it next, and the same bytes are made again."""
    stored = store_of(plan, run_of(plan, "some"))
    path = made.weights(stored.id)
    before = path.read_bytes()
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    again = Preparations(made.folder.parent)
    with pytest.raises(WorldError, match="stored outputs: its preparation"):
        read_stored(plan, [run_of(plan, "some")], again)
    pack = next(pack for pack in plan.packs if stored.id in pack.runs)
    with pytest.raises(Interrupted):
        run_pack(plan, pack, store, again, PackOptions(should_stop=lambda: True))
    assert not path.exists()
    run_pack(plan, pack, store, again, PackOptions())
    assert path.read_bytes() == before


def test_a_teacher_that_gives_no_numbers_leaves_a_failed_record(
    plan: Plan,
    made: Preparations,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Nothing is stored, and the record says why."""
    stored = store_of(plan, run_of(plan))
    empty = Preparations(tmp_path_factory.mktemp("empty"))
    monkeypatch.setattr(empty, "weights", made.weights)
    monkeypatch.setattr(empty, "ready", lambda id_: None if id_ == stored.id else made.ready(id_))
    monkeypatch.setattr(ViTNetwork, "normalise", lambda _, pixels: pixels * torch.nan)
    run_pack(plan, Pack(id="p", runs=(stored.id,), preparation=True), store, empty, PackOptions())
    record = store.read(stored.id)
    assert record is not None
    assert record.error is not None
    assert record.error.kind == "non_finite_output"
    assert not (empty.folder / stored.id).exists()


@pytest.mark.parametrize("control", ["independent_view", "virtual_teacher"])
def test_a_control_that_runs_the_teacher_is_refused(plan_of: PlanOf, control: str) -> None:
    """There is none to run: the stored outputs are those of one view."""
    asked = f"methods: [{{name: sparse_kd, control: {control}}}]"
    refused = plan_of(text=SUITE.replace(SUITE[SUITE.index("methods:") : SUITE.index("\nseeds")], asked))
    assert {r.reason for r in refused.refusals} == {
        f"{control} runs the teacher, and sparse_kd reads outputs of it that are stored"
    }
    assert not refused.cells


def test_a_control_of_outputs_acts_on_stored_ones(
    plan_of: PlanOf, plan: Plan, made: Preparations, store: Store
) -> None:
    """Outputs of another image are read from the same store, and the student ends elsewhere."""
    asked = "methods: [{name: sparse_kd, control: shuffled_outputs}]"
    text = SUITE.replace(SUITE[SUITE.index("methods:") : SUITE.index("\nseeds")], asked)
    controlled = plan_of(text=text)
    shuffled = run_of(controlled, controlled.cells[0].method)
    assert store_of(controlled, shuffled).id == store_of(plan, run_of(plan)).id
    curves = []
    for of, run in ((controlled, shuffled), (plan, run_of(plan))):
        run_pack(of, Pack(id=run.id, runs=(run.id,)), store, made, PackOptions())
        record = store.read(run.id)
        assert record is not None
        assert record.status == "done"
        curves.append([entry["loss/sparse_kd"] for entry in record.curve])
    assert curves[0] != curves[1]
