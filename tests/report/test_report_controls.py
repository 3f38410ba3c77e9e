"""Controls in a report: in tables of their own, beside their method, and in no family's verdict."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.report.conftest import Bench
from vitkd_bench.report import Board, build_board, render
from vitkd_bench.report.heatmaps import heatmaps
from vitkd_bench.report.summary import summary
from vitkd_bench.spec import ControlUse, MethodFacts, Plan, Record, Run

NAME = "attn_copy+shuffled_maps"
Start = Callable[..., Bench]


class Controlled(Bench):
    """A folder in which a method stands beside a control of it."""

    read_by_control: str | None = None

    def run(self, teacher: str, student: str, method: str, seed: int) -> Run:
        """The resolved run; of a control that of its method, and what makes it a control."""
        base = super().run(teacher, student, method.partition("+")[0], seed)
        if "+" not in method:
            return base
        control = ControlUse(name=method.partition("+")[2], version=1)
        use = base.teacher
        if self.read_by_control and use:
            use = use.model_copy(update={"name": self.read_by_control, "pin": "run:other"})
        return base.with_method(base.method.model_copy(update={"control": control}), use)

    def _plan(self) -> Plan:
        plan = super()._plan()
        facts = MethodFacts(
            name="attn_copy",
            title="attn_copy, control: attention of another image",
            kind="attention",
            control_of="attn_copy",
            control="shuffled_maps",
            claim="that its maps say something of the image",
        )
        return plan.model_copy(update={"methods": {**plan.methods, NAME: facts}})

    def _record(self, run: Run, right: int | None) -> Record:
        record = super()._record(run, right)
        if run.method.control is None or self.read_by_control is None:
            return record
        weights = {**record.provenance, "teacher_weights_sha256": "cd" * 32}
        return record.model_copy(update={"provenance": weights})


def made(folder: Path, control: int = -9, **changes: Any) -> Controlled:
    """Method and control of two teachers, three seeds each; the control is off by so many images."""
    bench = Controlled(folder)
    for name, value in changes.items():
        setattr(bench, name, value)
    for i, teacher in enumerate(("deit", "clip")):
        base = {0: 300, 1: 305, 2: 310}
        method = {s: n + 18 - 3 * i + s % 2 for s, n in base.items()}
        bench.add(teacher, "standard", "none", base)
        bench.add(teacher, "standard", "attn_copy", method)
        bench.add(teacher, "standard", NAME, {s: n + control + s % 2 for s, n in method.items()})
    return bench


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """The content of a report with two controls."""
    folder = made(tmp_path / "out").save()
    return build_board([folder], folder / "report")


def test_a_control_is_compared_with_its_method_seed_by_seed(board: Board) -> None:
    """Nine images of 360 less, eight where the seed is odd: 2.5 and 2.2 points that the method is better."""
    assert [(c.row.key.teacher, c.method, c.name) for c in board.controls] == [
        ("micro/clip", "attn_copy", NAME),
        ("micro/deit", "attn_copy", NAME),
    ]
    for control in board.controls:
        assert control.advantage is not None
        assert control.advantage.by_seed == pytest.approx({0: 900 / 360, 1: 800 / 360, 2: 900 / 360})
        assert control.verdict == "method better"
        assert control.remarks[0] == "at stake: that its maps say something of the image"


@pytest.mark.parametrize(("control", "verdict"), [(9, "control better"), (0, "undecided")])
def test_a_control_can_do_as_well(control: int, verdict: str, tmp_path: Path) -> None:
    """A control that is better, or that cannot be told from its method, is said to be."""
    folder = made(tmp_path / "out", control).save()
    found = build_board([folder], folder / "report")
    assert {c.verdict for c in found.controls} == {verdict}
    text = f"Of 2 comparisons of a method with a control of it: {verdict} in 2."
    assert text in summary(found)


def test_controls_stand_in_no_leaderboard_family_or_tally(board: Board) -> None:
    """Two methods are compared, two families judged by them alone, and two rows and a baseline shown."""
    (rows,) = board.groups().values()
    assert {row.key.method for row in rows} == {"none", "attn_copy"}
    assert {family.method for family in board.families} == {"attn_copy"}
    assert summary(board)[0].startswith("Of 2 comparisons with the same student")
    assert not any(NAME in sentence for sentence in summary(board))


def test_every_page_tells_controls_apart(board: Board) -> None:
    """Own sections in Markdown, LaTeX and on the page, own columns in CSV and heatmap."""
    pages = {name: content.decode() for name, content in render(board).items() if "figures" not in name}
    assert "## Controls: digits, recipe micro_short" in pages["leaderboard.md"]
    leaderboard, _, rest = pages["leaderboard.md"].partition("## Controls")
    assert "shuffled" not in leaderboard
    assert "method better" in rest
    assert '<h2 id="controls">Controls</h2>' in pages["index.html"]
    assert "Controls: digits" in pages["leaderboard.tex"]
    lines = list(csv.DictReader(io.StringIO(pages["leaderboard.csv"])))
    assert {(x["method"], x["control"], x["control_of"]) for x in lines} == {
        ("none", "", ""),
        ("attn_copy", "", ""),
        (NAME, "shuffled_maps", "attn_copy"),
    }
    (heatmap,) = heatmaps(board)
    assert heatmap.methods == ("attn_copy", NAME)
    assert heatmap.controls == (NAME,)
    assert "1 methods and 1 controls" in heatmap.alt


def test_a_control_without_its_method_says_so(tmp_path: Path) -> None:
    """Nothing is compared where the method has no result, and the row is shown."""
    bench = Controlled(tmp_path / "out")
    bench.add("deit", "standard", "none", {0: 300})
    bench.add("deit", "standard", NAME, {0: 310})
    folder = bench.save()
    (control,) = build_board([folder], folder / "report").controls
    assert control.verdict is None
    assert control.row.delta is not None
    assert "the method itself has no result beside it" in control.remarks


def test_other_settings_are_another_method(tmp_path: Path) -> None:
    """A control is held against the method under the same settings, not under any."""
    bench = made(tmp_path / "out")
    facts = bench._plan().methods[NAME].model_copy(update={"settings": {"layers": "first:3"}})
    plan = bench._plan()
    folder = bench.save()
    bench.store.write_plan(plan.model_copy(update={"methods": {**plan.methods, NAME: facts}}))
    assert {c.advantage for c in build_board([folder], folder / "report").controls} == {None}


def test_a_control_may_read_another_teachers_weights(tmp_path: Path) -> None:
    """Other weights in the cells of one teacher are no mix-up where a control reads another one."""
    folder = made(tmp_path / "out", read_by_control="micro/dino").save()
    assert len(build_board([folder], folder / "report").controls) == 2
