"""The loop: a pack in, records out, the same to the last bit whatever runs beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine.conftest import SUITE, PlanOf
from vitkd_bench.engine import Interrupted, PackOptions, evaluation, run_pack
from vitkd_bench.engine.setting import Setting, settle
from vitkd_bench.records import Preparations, Store
from vitkd_bench.spec import Pack, Plan


def run_all(plan: Plan, store: Store, preparations: Preparations, options: PackOptions | None = None) -> None:
    """Run every pack that is no preparation, in this process."""
    for pack in plan.packs:
        if not pack.preparation:
            run_pack(plan, pack, store, preparations, options or PackOptions())


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, plan_of: PlanOf, preparations: Preparations
) -> tuple[Plan, Store]:
    """The quick suite, run whole."""
    plan, store = plan_of(), Store(tmp_path_factory.mktemp("whole"))
    run_all(plan, store, preparations)
    return plan, store


def test_every_run_leaves_one_sound_record(finished: tuple[Plan, Store]) -> None:
    """All runs are done, with every split, counts that are counts, and a curve as long as the training."""
    plan, store = finished
    records = store.records()
    assert set(records) == set(plan.runs)
    for record in records.values():
        assert record.status == "done"
        assert set(record.metrics) == set(plan.evaluate["digits"])
        assert len(record.curve) == 2
        for metrics in record.metrics.values():
            assert 0 <= metrics["top1"] <= metrics["top5"] <= 1
            assert (metrics["top1"] * metrics["n"]) == pytest.approx(round(metrics["top1"] * metrics["n"]))
    assert store.finished(dict.fromkeys(plan.runs, plan.evaluate["digits"])) == set(plan.runs)


def test_agreement_is_there_where_the_teacher_has_a_head(finished: tuple[Plan, Store]) -> None:
    """A teacher with a head for the classes gives agreement and KL; otherwise the record says why not."""
    _, store = finished
    for record in store.records().values():
        has_head = record.cell.teacher == "quick/deit"
        assert ("agreement" in record.metrics["test"]) is has_head
        assert any(note.startswith("no agreement") for note in record.notes) is not has_head
        assert any("unused" in note for note in record.notes) is (record.cell.method == "attn_copy")


@pytest.mark.parametrize("method", ["none", "attn_copy", "attn_distill", "kd"])
def test_a_run_alone_gives_the_record_of_its_pack(
    finished: tuple[Plan, Store], preparations: Preparations, tmp_path: Path, method: str
) -> None:
    """Trained alone, a run leaves the same record and the same prediction file to the last bit."""
    plan, together = finished
    run = next(run for run in plan.runs.values() if run.method.name == method)
    alone = Store(tmp_path)
    run_pack(plan, Pack(id="alone", runs=(run.id,)), alone, preparations, PackOptions())
    one, other = alone.read(run.id), together.read(run.id)
    assert one is not None
    assert other is not None
    assert one.result() == other.result()
    assert alone.predictions_path(run.id).read_bytes() == together.predictions_path(run.id).read_bytes()


def test_a_second_execution_does_nothing(finished: tuple[Plan, Store], preparations: Preparations) -> None:
    """Finished runs are not repeated: their files stay as they are."""
    plan, store = finished
    before = {path: path.stat().st_mtime_ns for path in store.record_path("x").parent.iterdir()}
    run_all(plan, store, preparations)
    assert {path: path.stat().st_mtime_ns for path in store.record_path("x").parent.iterdir()} == before


def test_a_resumed_run_ends_like_an_undisturbed_one(
    finished: tuple[Plan, Store], preparations: Preparations, store: Store
) -> None:
    """Stopped in its second epoch, a pack goes on from its checkpoint to the same record."""
    plan, whole = finished
    pack = next(p for p in plan.packs if not p.preparation and p.needs)
    asked = iter(range(10_000))
    stop_late = PackOptions(should_stop=lambda: next(asked) >= 6, checkpoint_s=0.0)
    with pytest.raises(Interrupted):
        run_pack(plan, pack, store, preparations, stop_late)
    assert not store.records()
    assert all(store.checkpoint_path(id_).is_file() for id_ in pack.runs)
    run_pack(plan, pack, store, preparations, PackOptions())
    for id_ in pack.runs:
        one, other = store.read(id_), whole.read(id_)
        assert one is not None
        assert other is not None
        assert one.result() == other.result()


def test_a_damaged_checkpoint_is_set_aside_and_the_run_made_again(
    finished: tuple[Plan, Store], preparations: Preparations, store: Store
) -> None:
    """A truncated checkpoint is noticed and named; the run starts over and ends the same."""
    plan, whole = finished
    pack = next(p for p in plan.packs if not p.preparation and p.needs)
    asked = iter(range(10_000))
    with pytest.raises(Interrupted):
        run_pack(
            plan,
            pack,
            store,
            preparations,
            PackOptions(should_stop=lambda: next(asked) >= 6, checkpoint_s=0.0),
        )
    path = store.checkpoint_path(pack.runs[0])
    path.write_bytes(path.read_bytes()[:-100])
    run_pack(plan, pack, store, preparations, PackOptions())
    assert any(pack.runs[0] in sentence for sentence in store.damage)
    one, other = store.read(pack.runs[0]), whole.read(pack.runs[0])
    assert one is not None
    assert other is not None
    assert one.result() == other.result()


EXPLODING = """
from vitkd_bench.contracts import Method
from vitkd_bench.registry import METHODS
@METHODS.register("exploding_{n}", title="Loss that leaves the finite", kind="logit", paper="none")
class Exploding(Method):
    def loss(self, student, teacher, batch):
        loss = student.logits.logsumexp(1).mean()
        return {{"task": loss * (float("inf") if batch.progress > 0.4 else 1.0)}}
"""


def test_a_non_finite_loss_fails_that_run_and_no_other(
    plan_of: PlanOf, preparations: Preparations, store: Store, tmp_path: Path
) -> None:
    """The run ends as failed with its step and last good loss; the others go on."""
    extension = tmp_path / "exploding.py"
    extension.write_text(EXPLODING.format(n="a"))
    text = SUITE.replace("quick.py]", f"quick.py, {extension}]").replace(
        "attn_copy, attn_distill, kd]", "exploding_a]"
    )
    plan = plan_of(text=text, only=("quick/deit:standard:*",))
    run_all(plan, store, preparations)
    by_method = {record.cell.method: record for record in store.records().values()}
    assert by_method["none"].status == "done"
    failed = by_method["exploding_a"]
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error.kind == "non_finite_loss"
    assert failed.error.step is not None
    assert failed.error.step > 0
    assert failed.error.last_good_loss is not None
    assert np.isfinite(failed.error.last_good_loss)
    assert failed.run_id not in store.finished(None)


UNMAKEABLE = """
from vitkd_bench.contracts import Method
from vitkd_bench.registry import METHODS
@METHODS.register("unmakeable", title="Method that cannot be made", kind="logit", paper="none")
class Unmakeable(Method):
    def __init__(self, config, cell):
        raise ValueError("no such width")
"""


def test_a_method_that_cannot_be_made_fails_its_run_and_no_other(
    plan_of: PlanOf, preparations: Preparations, store: Store, tmp_path: Path
) -> None:
    """What a stranger's method raises in its making stands in its record; its pack goes on."""
    extension = tmp_path / "unmakeable.py"
    extension.write_text(UNMAKEABLE)
    text = SUITE.replace("quick.py]", f"quick.py, {extension}]")
    text = text.replace("[none, attn_copy, attn_distill, kd]", "[none, kd, unmakeable]")
    plan = plan_of(text=text, only=("quick/deit:standard:*",))
    run_all(plan, store, preparations)
    by_method = {record.cell.method: record for record in store.records().values()}
    assert {name: record.status for name, record in by_method.items()} == {
        "none": "done",
        "kd": "done",
        "unmakeable": "failed",
    }
    error = by_method["unmakeable"].error
    assert error is not None
    assert (error.kind, error.message) == ("ValueError", "no such width")


def test_the_teacher_is_bit_identical_after_training(
    plan_of: PlanOf, preparations: Preparations, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copy and distillation are trained to their end; every tensor of the teacher is as it was loaded."""
    plan, seen = plan_of(only=("quick/dinov2:standard:attn_*:*",)), []

    def settled(*given: Any) -> Setting:
        setting = settle(*given)
        if setting.teacher is not None:  # the baseline's pack reads none
            assert not setting.teacher.training
            assert not any(p.requires_grad for p in setting.teacher.parameters())
            seen.append((setting, {k: v.clone() for k, v in setting.teacher.module.state_dict().items()}))
        return setting

    monkeypatch.setattr("vitkd_bench.engine.pack.settle", settled)
    run_all(plan, store, preparations)
    assert {record.cell.method for record in store.records().values()} >= {"attn_copy", "attn_distill"}
    assert seen
    for setting, before in seen:
        assert all(trainee.step_count > 0 for trainee in setting.trainees)
        assert setting.teacher is not None
        after = setting.teacher.module.state_dict()
        assert after.keys() == before.keys()
        assert all(tensor.equal(before[name]) for name, tensor in after.items())


def test_a_preparation_is_measured_before_and_after(preparations: Preparations, plan_of: PlanOf) -> None:
    """A preparation's record tells k-NN on val trained and untrained; labels for an epoch improve it."""
    plan = plan_of()
    for id_ in plan.preparations:
        record = preparations.ready(id_)
        assert record is not None
        val = record.metrics["val"]
        assert 0 < val["untrained_knn_top1"] < 1
        if plan.prepares[id_] == "quick/deit":
            assert val["knn_top1"] != val["untrained_knn_top1"]


def test_sealed_bytes_that_are_no_checkpoint_are_set_aside(
    finished: tuple[Plan, Store], preparations: Preparations, store: Store
) -> None:
    """A file whose seal is whole but that torch cannot unpickle costs its run nothing but the time."""
    plan, whole = finished
    pack = next(p for p in plan.packs if not p.preparation and p.needs)
    store.write_sealed(store.checkpoint_path(pack.runs[0]), b"not a checkpoint")
    run_pack(plan, pack, store, preparations, PackOptions())
    assert any("cannot be used" in why for why in store.damaged().values())
    one, other = store.read(pack.runs[0]), whole.read(pack.runs[0])
    assert one is not None
    assert other is not None
    assert one.result() == other.result()


def test_a_run_whose_outputs_are_no_numbers_on_test_has_failed(
    finished: tuple[Plan, Store],
    plan_of: PlanOf,
    preparations: Preparations,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is finite on val and not on test ends as failed, without stopping the others of its pack."""
    honest = evaluation.log_probabilities
    whole = next(iter(finished[1].records().values())).metrics
    plan = plan_of(only=("quick/deit:standard:kd",))
    (kd,) = [run for run in plan.runs.values() if run.method.name == "kd"]

    def on_test(trainees: Any, teacher: Any, examples: Any, device: Any) -> Any:
        outputs = honest(trainees, teacher, examples, device)
        broken = len(examples) == whole["test"]["n"] != whole["val"]["n"]
        return [
            o * float("nan") if broken and t.run.id == kd.id else o
            for t, o in zip(trainees, outputs, strict=True)
        ]

    monkeypatch.setattr("vitkd_bench.engine.pack.log_probabilities", on_test)
    run_all(plan, store, preparations)
    record = store.read(kd.id)
    assert record is not None
    assert record.error is not None
    assert record.error.kind == "non_finite_output"
    assert not store.predictions_path(kd.id).exists()
    others = [r for id_, r in store.records().items() if id_ != kd.id]
    assert {r.status for r in others} == {"done"}


def test_weights_that_the_plan_keeps_are_made_up_for(
    plan_of: PlanOf, preparations: Preparations, store: Store
) -> None:
    """A run done before `keep: student` was asked for is done again, for its weights; then never more."""
    plan = plan_of(only=("quick/deit:standard:none",))
    run_all(plan, store, preparations)
    (run_id,) = plan.runs
    assert not store.weights_path(run_id).exists()
    keeping = plan.model_copy(update={"keep": "student"})
    assert store.serves(plan, run_id)
    assert not store.serves(keeping, run_id)
    run_all(keeping, store, preparations)
    assert store.weights_path(run_id).is_file()
    assert store.serves(keeping, run_id)


def test_a_student_of_fewer_tokens_trains_and_is_evaluated(
    plan_of: PlanOf, preparations: Preparations, store: Store
) -> None:
    """Transferred maps are cut at training and at test, and the record says which tokens were left out."""
    text = SUITE.replace("[standard, native]", "[{name: standard, as: bare, class_token: none}]")
    plan = plan_of(text=text, only=("quick/dinov2:bare:attn_*:*",))
    run_all(plan, store, preparations)
    by_method = {record.cell.method: record for record in store.records().values()}
    assert {name: record.status for name, record in by_method.items()} == dict.fromkeys(
        ("none", "attn_copy", "attn_distill"), "done"
    )
    assert by_method["attn_copy"].config["student_tokens"] == 16
    for name in ("attn_copy", "attn_distill"):
        assert any("class token" in note for note in by_method[name].notes)
    assert not any("class token" in note for note in by_method["none"].notes)
