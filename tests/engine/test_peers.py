"""Methods that train several students, and methods that read the teacher before training alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.engine.conftest import SUITE, PlanOf
from vitkd_bench.engine import Interrupted, PackOptions, run_pack
from vitkd_bench.engine.setting import settle
from vitkd_bench.engine.showing import EVALUATED
from vitkd_bench.engine.trainee import Trainee
from vitkd_bench.networks import ViTNetwork
from vitkd_bench.records import Preparations, Store
from vitkd_bench.spec import Pack, Plan

ONLINE = SUITE.replace("[none, attn_copy, attn_distill, kd]", "[none, {name: dml, networks: 3}, one]")
WEIGHTS = SUITE.replace(
    "[none, attn_copy, attn_distill, kd]",
    "[none, finetune, {name: keep_mlp, as: kept_copy, transfer: attn_copy}]",
)
ONE_STUDENT = ("quick/deit:standard:*",)


@pytest.fixture(scope="module")
def online(plan_of: PlanOf) -> Plan:
    """The baseline and both online methods, of one student."""
    return plan_of(text=ONLINE, only=ONE_STUDENT)


@pytest.fixture(scope="module")
def whole(online: Plan, preparations: Preparations, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Their records, of runs in one pack that nothing disturbed."""
    store = Store(tmp_path_factory.mktemp("online"))
    run_pack(online, the_pack(online), store, preparations, PackOptions())
    return store


def the_pack(plan: Plan) -> Pack:
    """The one pack that is no preparation."""
    (pack,) = (pack for pack in plan.packs if not pack.preparation)
    return pack


def trainees(plan: Plan, preparations: Preparations) -> dict[str, Trainee]:
    """The runs of a plan before their first step, by method."""
    setting = settle(plan, list(plan.runs.values()), preparations, PackOptions())
    assert not setting.stillborn
    return {trainee.run.method.name: trainee for trainee in setting.trainees}


def weights(network: ViTNetwork) -> torch.Tensor:
    """All drawn parameters of a network in one row."""
    return torch.cat([p.flatten() for p in network.module.parameters()])


def test_peers_are_drawn_from_seeds_of_their_own(online: Plan, preparations: Preparations) -> None:
    """The student is what it is without peers; each peer is another draw of the same architecture."""
    made = trainees(online, preparations)
    alone, dml = made["none"], made["dml"]
    assert torch.equal(weights(alone.network), weights(dml.network))
    assert torch.equal(weights(alone.network), weights(made["one"].network))
    drawn = [weights(dml.network), *map(weights, dml.peers)]
    assert len(drawn) == 3
    assert len({tuple(row[:1000].tolist()) for row in drawn}) == 3
    assert {peer.architecture for peer in dml.peers} == {dml.network.architecture}
    again = trainees(online, preparations)["dml"]
    for one, other in zip(dml.peers, again.peers, strict=True):
        assert torch.equal(weights(one), weights(other))
    assert alone.peers == made["one"].peers == []  # a branch is no network of its own


def test_peers_see_the_random_state_of_the_run_and_leave_the_others_theirs(
    online: Plan, preparations: Preparations
) -> None:
    """Making peers draws nothing from the run's own stream."""
    made = trainees(online, preparations)
    assert torch.equal(made["none"].random.cpu, made["dml"].random.cpu)


def test_a_peers_gradient_is_clipped_by_itself(online: Plan, preparations: Preparations) -> None:
    """Student and peers are each held to the norm; the student's step does not depend on their number."""
    dml = trainees(online, preparations)["dml"]
    dml.prepare(None, lambda: iter(()))
    assert dml.optimiser is not None
    networks = [dml.network, *dml.peers]
    for scale, network in zip((3.0, 5.0, 0.0), networks, strict=True):
        for parameter in network.parameters():
            parameter.grad = torch.full_like(parameter, scale)
    dml._clip(dml.optimiser, 1.0)
    norms = [
        float(torch.cat([p.grad.flatten() for p in n.parameters() if p.grad is not None]).norm())
        for n in networks
    ]
    assert norms == pytest.approx([1, 1, 0], abs=1e-4)


def test_online_runs_are_done_and_keep_the_student_alone(online: Plan, whole: Store) -> None:
    """Each record says what the student was trained beside, and counts the student's parameters alone."""
    by_method = {record.cell.method: record for record in whole.records().values()}
    assert {name: record.status for name, record in by_method.items()} == dict.fromkeys(
        ("none", "dml", "one"), "done"
    )
    assert len({record.config["student_parameters"] for record in by_method.values()}) == 1
    assert any("beside 2 peers" in note for note in by_method["dml"].notes)
    assert any("further branches" in note for note in by_method["one"].notes)
    assert {"loss/dml", "loss/peers"} <= by_method["dml"].curve[0].keys()
    assert not any(run.teacher for run in online.runs.values())


def test_an_online_run_resumes_to_the_same_record(
    online: Plan, whole: Store, preparations: Preparations, store: Store
) -> None:
    """Peers, branches and gate come back from the checkpoint: the records are the same bit for bit."""
    pack = the_pack(online)
    asked: Iterator[int] = iter(range(10_000))
    with pytest.raises(Interrupted):
        run_pack(
            online,
            pack,
            store,
            preparations,
            PackOptions(should_stop=lambda: next(asked) >= 6, checkpoint_s=0.0),
        )
    assert all(store.checkpoint_path(id_).is_file() for id_ in pack.runs)
    run_pack(online, pack, store, preparations, PackOptions())
    for id_ in pack.runs:
        one, other = store.read(id_), whole.read(id_)
        assert one is not None
        assert other is not None
        assert one.result() == other.result()


def test_a_teacher_whose_weights_alone_are_taken_runs_in_no_step(
    plan_of: PlanOf, preparations: Preparations, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone in its pack, fine-tuning asks for no forward of the teacher but those that measure agreement."""
    plan = plan_of(text=WEIGHTS, only=("quick/deit:standard:finetune:*",))
    (run,) = [run for run in plan.runs.values() if run.method.name == "finetune"]
    forward, asked = ViTNetwork.forward, []

    def counted(self: ViTNetwork, pixels: Any, taps: Any = frozenset(), inject: Any = None) -> Any:
        asked.extend([taps] * self.frozen)
        return forward(self, pixels, taps, inject)

    monkeypatch.setattr(ViTNetwork, "forward", counted)
    run_pack(plan, Pack(id="alone", runs=(run.id,)), store, preparations, PackOptions())
    record = store.read(run.id)
    assert record is not None
    assert record.status == "done"
    evaluated = sum(math.ceil(metrics["n"] / EVALUATED) for metrics in record.metrics.values())
    assert asked == [frozenset({"logits"})] * evaluated
    assert any(note.startswith("the student starts with") for note in record.notes)
    assert not record.needs_teacher_at_test


def test_weights_and_transfer_go_through_the_loop(
    plan_of: PlanOf, preparations: Preparations, store: Store
) -> None:
    """A student that starts from the teacher is ahead at once; copied maps are marked as needed at test."""
    plan = plan_of(text=WEIGHTS, only=ONE_STUDENT)
    for pack in plan.packs:
        if not pack.preparation:
            run_pack(plan, pack, store, preparations, PackOptions())
    by_method = {record.cell.method: record for record in store.records().values()}
    assert {record.status for record in by_method.values()} == {"done"}
    first = {name: record.curve[0]["val_top1"] for name, record in by_method.items()}
    assert first["finetune"] > first["none"]
    needed = {name: record.needs_teacher_at_test for name, record in by_method.items()}
    assert needed == {"none": False, "finetune": False, "keep_mlp": True}
    facts = {f.name: f.needs_teacher_at_test for f in plan.methods.values()}
    assert facts == needed
