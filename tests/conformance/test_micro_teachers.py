"""The micro teachers as they are made for every suite: all of them, by the recipes that ship."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from vitkd_bench.api import plan_teacher
from vitkd_bench.cli.app import app
from vitkd_bench.records import Preparations
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import Record

MICRO = [t.name for t in TEACHERS if t.group == "micro"]
LARGE = [name for name in MICRO if name.endswith("_large")]
SOME_LARGE = ["micro/deit_large", "micro/dinov2_large"]


def make(names: list[str], folder: Path) -> dict[str, Record]:
    """Make teachers by the command that a user would type, into a cache of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VITKD_CACHE", str(folder))
        answer = CliRunner().invoke(app, ["teachers", "fetch", *names, "--jobs", "2"])
        assert answer.exit_code == 0, answer.output
        preparations = Preparations()
        records = {}
        for name in names:
            record = preparations.ready(next(reversed(plan_teacher(name).preparations)))
            assert record is not None
            records[name] = record
    return records


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Record]:
    """Every family's micro teacher, and two of the larger ones (about four minutes of one core)."""
    small = [name for name in MICRO if name not in LARGE]
    return make([*small, *SOME_LARGE], tmp_path_factory.mktemp("micro"))


@pytest.mark.timeout(900)
def test_each_beats_itself_untrained_and_no_two_are_equal(made: dict[str, Record]) -> None:
    """Eleven families, all weights different, and k-NN on val well above the same network untrained."""
    assert len({TEACHERS.get(name).family for name in made}) == 11
    assert_learned(made)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_every_larger_one_can_be_made(tmp_path: Path) -> None:
    """The second size of all eleven families learns too."""
    assert_learned(make(LARGE, tmp_path))


def assert_learned(made: dict[str, Record]) -> None:
    """Each network is another and knows its neighbours better than untrained."""
    assert len({record.weights_sha256 for record in made.values()}) == len(made)
    for name, record in made.items():
        val = record.metrics["val"]
        assert val["knn_top1"] > val["untrained_knn_top1"] + 0.1, (name, val)


def test_a_teacher_with_a_head_knows_the_digits(made: dict[str, Record]) -> None:
    """Where the contract claims a head, it classifies val far above chance; elsewhere there are no logits."""
    for name, record in made.items():
        top1 = record.metrics["val"].get("top1")
        assert (top1 is not None) == (TEACHERS.get(name).head is not None), name
        assert top1 is None or top1 > 0.9, (name, top1)
