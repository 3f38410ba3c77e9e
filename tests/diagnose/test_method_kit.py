"""The kit passes a sound method of a stranger's, and says of each broken one what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, ClassVar, Literal

import pytest
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vitkd_bench.contracts import Batch, CellFacts, Features, Method, Network, taps
from vitkd_bench.diagnose.method_bench import Bench
from vitkd_bench.diagnose.method_conformance import METHOD_CHECKS, checked, method_conformance
from vitkd_bench.registry import METHODS, MethodEntry
from vitkd_bench.spec import BadInputError, Settings

FACTS: dict[str, Any] = {
    "title": "A stranger's",
    "kind": "feature",
    "paper": "doi:10.1/1",
    "budget": "0",
    "needs": ("parameters",),
}


@pytest.fixture(autouse=True)
def _own_shelf(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test puts on the shelf of methods is gone after it."""
    METHODS.names()
    for held in ("_entries", "_origin", "_lines"):
        monkeypatch.setattr(METHODS, held, dict(getattr(METHODS, held)))


class Pull(Method, nn.Module):
    """Cross-entropy with labels + squared error of a projector from the student's pooled features."""

    class Config(Settings):
        weight: float = Field(default=1.0, ge=0, description="of the error, the labels weigh 1")
        loss: Literal["square", "smooth"] = Field(default="square", description="what is made of a distance")

    def __init__(self, config: Any, cell: CellFacts) -> None:
        super().__init__(config, cell)
        theirs = cell.teacher_architecture or cell.student
        self.projector = nn.Linear(cell.student.size.width, theirs.size.width)

    def teacher_taps(self) -> frozenset[str]:
        """Read the pooled features."""
        return frozenset({taps.POOLED})

    def student_taps(self) -> frozenset[str]:
        """Read the same of the student."""
        return frozenset({taps.POOLED})

    def pulled(self, student: Features, teacher: Features | None) -> Tensor:
        """Give the error of the projected features."""
        assert student.pooled is not None
        assert teacher is not None
        assert teacher.pooled is not None
        distance = F.mse_loss if self.config.loss == "square" else F.smooth_l1_loss
        return distance(self.projector(student.pooled), teacher.pooled)

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        """Give both parts."""
        assert student.logits is not None
        labels = F.cross_entropy(student.logits, batch.labels, label_smoothing=batch.label_smoothing)
        return {"labels": labels, "pull": self.config.weight * self.pulled(student, teacher)}


def registered(kind: type[Method], **facts: Any) -> MethodEntry:
    """Put a method on the shelf, as a stranger's file would."""
    METHODS.register("strangers", **{**FACTS, **facts})(kind)
    return METHODS.get("strangers")


def finding(check: str, folder: Path, kind: type[Method], **facts: Any) -> str:
    """What one check finds wrong with a method; nothing where it holds."""
    found = checked(check, Bench(registered(kind, **facts), Path(mkdtemp(dir=folder))))
    return found.finding if found.status == "refuse" else ""


def test_a_sound_method_passes() -> None:
    """Every check holds, in its order, and says what it is about."""
    checks = method_conformance(registered(Pull))
    assert [(check.name, check.status) for check in checks] == [(name, "pass") for name in METHOD_CHECKS]
    assert all(check.finding for check in checks)


def test_what_trains_no_student_is_refused() -> None:
    """A method that makes teachers is told from those that the kit is for."""
    with pytest.raises(BadInputError, match="'pretrain_mae' of kind pretraining makes teachers"):
        method_conformance(METHODS.get("pretrain_mae"))


# --- what it says of itself ---


def test_facts_that_are_missing_are_named(tmp_path: Path) -> None:
    """An empty title and budget, a paper that is no reference."""
    found = finding("facts", tmp_path, Pull, title="", budget=" ", paper="see the web")
    assert "title, budget: empty" in found
    assert "paper 'see the web'" in found


def test_settings_are_described_bounded_and_have_a_default(tmp_path: Path) -> None:
    """Each omission is found, by setting."""

    class Bare(Pull):
        class Config(Pull.Config):
            depth: int
            share: float | None = Field(default=None, description="a share")
            name: str = "x"

    found = finding("facts", tmp_path, Bare)
    assert "setting depth: no default" in found
    assert "setting depth: no description" in found
    assert "setting share: a number without a bound" in found
    assert "setting name: no description" in found
    assert "setting weight" not in found


# --- runs ---


class Changed(Pull):
    """`Pull` with its parts changed by `change`."""

    def change(self, parts: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Change the parts of the loss."""
        return parts

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        """Give the changed parts."""
        return self.change(super().loss(student, teacher, batch), batch)


def test_a_run_that_fails_is_told_with_its_step(tmp_path: Path) -> None:
    """What is raised late in training is found by training."""

    class Late(Changed):
        def change(self, parts: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
            if batch.epoch:
                raise ValueError("no second epoch")
            return parts

    assert "the run failed at step 3: ValueError: no second epoch" in finding("trains", tmp_path, Late)


def test_parts_of_a_loss_have_plain_names(tmp_path: Path) -> None:
    """A name that no column of a table could have is found."""

    class Shouting(Changed):
        def change(self, parts: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
            return {"Pull It": parts["pull"], "labels": parts["labels"]}

    assert "loss/Pull It: lower case" in finding("trains", tmp_path, Shouting)


def test_state_outside_of_buffers_does_not_survive_a_resume(tmp_path: Path) -> None:
    """A count kept in an attribute, which the loss reads, makes a resumed run another."""

    class Counting(Changed):
        count = 0

        def change(self, parts: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
            self.count += 1
            return {**parts, "pull": parts["pull"] * self.count}

    found = finding("resumed", tmp_path, Counting)
    assert "resumed it ends with another" in found
    assert "beside another" not in found


def test_state_that_runs_share_is_found(tmp_path: Path) -> None:
    """A count kept in the class goes on from one run to the next."""

    class Sharing(Changed):
        count: ClassVar[list[int]] = []

        def change(self, parts: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
            self.count.append(1)
            return {**parts, "pull": parts["pull"] * len(self.count)}

    assert "alone and beside another run" in finding("resumed", tmp_path, Sharing)


def test_a_student_that_needs_its_method_at_test_is_found(tmp_path: Path) -> None:
    """A hook that the method hangs on the student is not in the weights that are kept."""

    class Hooked(Pull):
        def fit(self, student: Network, teacher: Network | None, batches: Iterable[Batch]) -> None:
            head = student.module.get_submodule("head")
            head.register_forward_hook(lambda _module, _given, logits: logits.roll(1, dims=-1))

    assert "val top1:" in finding("exported", tmp_path, Hooked)


def test_the_need_of_a_teacher_at_test_is_true(tmp_path: Path) -> None:
    """Said where nothing is injected, and not said where it is."""

    class Copying(Pull):
        def teacher_taps(self) -> frozenset[str]:
            return super().teacher_taps() | {taps.attention(0)}

        def injects(self) -> tuple[int, ...]:
            return (0,)

    told = finding("exported", tmp_path, Pull, needs_teacher_at_test=True)
    assert "needs_teacher_at_test is said, and it injects nothing" in told
    untold = finding("exported", tmp_path, Copying)
    assert "needs_teacher_at_test is not said" in untold


# --- cells ---


def test_a_pair_that_is_neither_refused_nor_works_is_named(tmp_path: Path) -> None:
    """Without its projector it takes no student of another width, and does not say so."""

    class Direct(Pull):
        def pulled(self, student: Features, teacher: Features | None) -> Tensor:
            assert student.pooled is not None
            assert teacher is not None
            assert teacher.pooled is not None
            return (student.pooled - teacher.pooled).square().mean()

    found = finding("pairs", tmp_path, Direct)
    assert "a smaller student: not refused, and fails" in found
    assert "a teacher with registers" not in found
    assert finding("pairs", tmp_path, Direct, needs=("width",)) == ""


def test_a_refusal_is_one_sentence(tmp_path: Path) -> None:
    """One that runs over lines is found."""

    class Wordy(Pull):
        @classmethod
        def refuses(cls, config: Any, cell: CellFacts) -> str | None:
            return "too\nlong" if cell.student.size.depth < 4 else None

    assert "a smaller student: the refusal is not one sentence" in finding("pairs", tmp_path, Wordy)


def test_a_choice_that_does_not_work_is_named(tmp_path: Path) -> None:
    """Every value that a setting offers is tried, not the default alone."""

    class Half(Changed):
        def change(self, parts: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
            if self.config.loss == "smooth":
                raise NotImplementedError("smooth")
            return parts

    found = finding("settings", tmp_path, Half)
    assert found.startswith("loss=smooth: not refused, and fails: ")
    assert "NotImplementedError: smooth" in found


# --- steps ---


def test_a_student_without_gradient_is_found(tmp_path: Path) -> None:
    """A loss that reaches the projector alone trains nobody."""

    class Cut(Changed):
        def change(self, parts: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
            return {"pull": self.projector.weight.square().sum()}

    assert "no parameter of the student gets a gradient" in finding("learns", tmp_path, Cut)


def test_a_teacher_that_is_changed_is_found(tmp_path: Path) -> None:
    """One that the method writes into while it fits is no longer the one of the plan."""

    class Writing(Pull):
        def fit(self, student: Network, teacher: Network | None, batches: Iterable[Batch]) -> None:
            assert teacher is not None
            with torch.no_grad():
                teacher.module.get_parameter("head.bias").fill_(1)

    assert "the teacher is changed: module.head.bias" in finding("learns", tmp_path, Writing)


def test_parameters_are_declared_if_there_are_any(tmp_path: Path) -> None:
    """Both ways round."""

    class Bare(Pull):
        def __init__(self, config: Any, cell: CellFacts) -> None:
            super().__init__(config, cell)
            self.projector.requires_grad_(False)

    assert "is not said, and it trains projector.weight" in finding("parameters", tmp_path, Pull, needs=())
    assert "needs names parameters, and it has none" in finding("parameters", tmp_path, Bare)
    assert finding("parameters", tmp_path, Bare, needs=()) == ""


def test_parameters_that_no_optimiser_has_are_found(tmp_path: Path) -> None:
    """Layers in a list are not registered; those of the first step come too late."""

    class Listed(Pull):
        def __init__(self, config: Any, cell: CellFacts) -> None:
            super().__init__(config, cell)
            self.layers = [nn.Linear(2, 2)]

    class Lazy(Changed):
        def change(self, parts: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
            if not hasattr(self, "scale"):
                self.scale = nn.Parameter(torch.ones(()))
            return {**parts, "pull": self.scale * parts["pull"]}

    assert "self.layers holds parameters that are not registered" in finding("parameters", tmp_path, Listed)
    assert "made after the optimiser: scale" in finding("parameters", tmp_path, Lazy)


def test_a_parameter_that_learns_nothing_is_found(tmp_path: Path) -> None:
    """It is in the optimiser, and no loss reads it."""

    class Idle(Pull):
        def __init__(self, config: Any, cell: CellFacts) -> None:
            super().__init__(config, cell)
            self.idle = nn.Parameter(torch.ones(3))

    assert finding("parameters", tmp_path, Idle) == "idle gets no gradient in two steps"


def test_memory_is_declared_if_it_grows(tmp_path: Path) -> None:
    """Buffers of a number an image are counted, both ways round."""

    class Bank(Pull):
        def __init__(self, config: Any, cell: CellFacts) -> None:
            super().__init__(config, cell)
            self.register_buffer("bank", torch.zeros(cell.train_size, 2))

    assert "needs does not name memory: its buffers hold 240" in finding("memory", tmp_path, Bank)
    assert finding("memory", tmp_path, Bank, needs=("parameters", "memory")) == ""
    assert "needs names memory" in finding("memory", tmp_path, Pull, needs=("parameters", "memory"))


def test_batch_is_declared_if_samples_are_related(tmp_path: Path) -> None:
    """Distances between the samples of a batch; normalising each by itself relates none."""

    class Relating(Pull):
        def pulled(self, student: Features, teacher: Features | None) -> Tensor:
            assert student.pooled is not None
            assert teacher is not None
            assert teacher.pooled is not None
            ours = self.projector(student.pooled)
            return F.mse_loss(ours @ ours.T, teacher.pooled @ teacher.pooled.T)

    assert "does not name batch, and an image changes" in finding("batch", tmp_path, Relating)
    assert finding("batch", tmp_path, Relating, needs=("parameters", "batch")) == ""
    both = ("parameters", "batch")
    assert "names batch, and no image changes" in finding("batch", tmp_path, Pull, needs=both)


class Tapped(Pull):
    """`Pull` with further taps."""

    theirs: ClassVar[frozenset[str]] = frozenset()
    ours: ClassVar[frozenset[str]] = frozenset()

    def teacher_taps(self) -> frozenset[str]:
        """Read some more."""
        return super().teacher_taps() | self.theirs

    def student_taps(self) -> frozenset[str]:
        """Read some more."""
        return super().student_taps() | self.ours


def test_taps_that_are_not_read_are_found(tmp_path: Path) -> None:
    """A tap costs the teacher its work up to there, whether it is read or not."""

    class Greedy(Tapped):
        theirs = frozenset({taps.tokens(2)})
        ours = frozenset({taps.attention(1)})

    found = finding("taps", tmp_path, Greedy)
    assert found == (
        "teacher tap 'tokens/2' is named and not read; student tap 'attention/1' is named and not read"
    )


def test_a_method_that_takes_what_it_finds_is_found(tmp_path: Path) -> None:
    """It sums over all blocks that it is given, which another run of its pack may have asked for."""

    class Open(Tapped):
        theirs = frozenset({taps.tokens(2)})

        def pulled(self, student: Features, teacher: Features | None) -> Tensor:
            assert teacher is not None
            more = torch.stack([tokens.square().mean() for tokens in teacher.tokens.values()]).sum()
            return super().pulled(student, teacher) * more

    assert "another where the teacher gives more than it names" in finding("taps", tmp_path, Open)


def test_a_teacher_run_on_the_side_is_found(tmp_path: Path) -> None:
    """A method that keeps the network and runs it itself does work that no tap names."""

    class Aside(Changed):
        def fit(self, student: Network, teacher: Network | None, batches: Iterable[Batch]) -> None:
            self.kept = [teacher]

        def change(self, parts: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
            assert self.kept[0] is not None
            self.kept[0](batch.pixels, frozenset({taps.tokens(3)}))
            return parts

    assert "it runs the teacher in a step by itself" in finding("taps", tmp_path, Aside)


def test_logits_are_declared_if_they_are_read(tmp_path: Path) -> None:
    """Both ways round: a probe is fitted, or a cell refused, by what is said here."""

    class Reading(Tapped):
        theirs = frozenset({taps.LOGITS})

        def pulled(self, student: Features, teacher: Features | None) -> Tensor:
            assert teacher is not None
            assert teacher.logits is not None
            return super().pulled(student, teacher) + teacher.logits.square().mean()

    assert "needs does not, and the method does read" in finding("taps", tmp_path, Reading)
    said = finding("taps", tmp_path, Pull, needs=("parameters", "logits"))
    assert "needs names logits, and the method does not read" in said


def test_what_reads_no_teacher_does_not_say_that_it_does(tmp_path: Path) -> None:
    """It neither names a tap nor fits anything, and would hold up the teacher's weights for nothing."""

    class Alone(Method):
        """Labels."""

        def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
            assert student.logits is not None
            return {"labels": F.cross_entropy(student.logits, batch.labels)}

    assert "reads_teacher is said" in finding("taps", tmp_path, Alone, needs=())
    assert finding("taps", tmp_path, Alone, needs=(), reads_teacher=False) == ""


# --- what it asks for can be learnt ---


class Lifted(Changed):
    """`Pull` above a floor that nothing can learn away."""

    def change(self, parts: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Lift the error."""
        return {**parts, "pull": parts["pull"] + 3}


@pytest.fixture
def floors() -> Iterator[type[Method]]:
    """`Lifted`, whose declared floors are cleared after the test."""
    yield Lifted
    Lifted.floors = {}


def test_a_loss_that_cannot_be_learnt_is_found(tmp_path: Path, floors: type[Method]) -> None:
    """Its value at the start and the least reached are named; declared as open it only has to fall."""
    assert "pull: from 4." in (found := finding("overfits", tmp_path, floors))
    assert "to 3" in found
    floors.floors = {"pull": "open"}
    assert finding("overfits", tmp_path, floors) == ""
    floors.floors = {"pul": "open"}
    assert "floors names 'pul', which is no part of its loss" in finding("overfits", tmp_path, floors)


def test_a_floor_at_the_teacher_is_the_value_there(tmp_path: Path) -> None:
    """A cross-entropy with the teacher's probabilities ends at their entropy, and not at 0."""

    class Soft(Tapped):
        floors = {"soft": "teacher"}
        theirs = frozenset({taps.LOGITS})

        def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
            assert student.logits is not None
            assert teacher is not None
            assert teacher.logits is not None
            return {"soft": F.cross_entropy(student.logits, teacher.logits.softmax(dim=-1))}

    class Undeclared(Soft):
        floors: ClassVar[dict[str, Any]] = {}

    assert finding("overfits", tmp_path, Soft) == ""
    assert "soft: from" in finding("overfits", tmp_path, Undeclared)
