"""Shift sets, long tails and seen pictures: each number beside what it may be compared with, and marked."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from tests.report.conftest import Bench
from vitkd_bench.report import Board, MixedError, build_board, render
from vitkd_bench.report.beside import Table, beside_tables
from vitkd_bench.report.heatmaps import heatmaps
from vitkd_bench.report.rows import Row
from vitkd_bench.report.summary import summary
from vitkd_bench.spec import Plan, Record, Run

WITHIN = {"rule": "within 4 of 10 classes", "classes": "c" * 16, "clean_split": "test"}
OTHER = {"rule": "within 5 of 10 classes", "classes": "d" * 16, "clean_split": "test"}
LOSSES = {"digits/a": 0.5, "digits/r": 0.25}


class Shifted(Bench):
    """A folder whose runs were scored on two shift sets of some of the classes, and on a long tail."""

    def __init__(self, folder: Path) -> None:
        """Start with both shift sets under one rule."""
        super().__init__(folder)
        self.scoring: dict[str, dict[str, Any]] = {"digits/a": WITHIN, "digits/r": WITHIN}
        self.groups: dict[str, float] = {}
        self.facts: dict[str, Any] = {}
        self.older: frozenset[int] = frozenset()
        self.more: dict[str, Any] = {}

    def _record(self, run: Run, right: int | None) -> Record:
        record = super()._record(run, right)
        if right is None:
            return record
        top1 = record.metrics["test"]["top1"]
        if run.seed in self.older:
            return record
        sets = {
            split: {
                "n": 100.0,
                "top1": top1 * (1 - LOSSES[split]),
                "top1_over_all": top1 * (1 - LOSSES[split]) / 2,
                "clean_n": 144.0,
                "clean_top1": top1,
                "clean_top1_over_all": top1 / 2,
            }
            for split in self.scoring
        }
        tail = {name: value * top1 if name.endswith("top1") else value for name, value in self.groups.items()}
        metrics = {**record.metrics, "test": {**record.metrics["test"], **tail, "agreement": 0.75}, **sets}
        changes = {"metrics": metrics, "scoring": self.scoring, "facts": self.facts}
        return record.model_copy(update=changes)

    def _plan(self) -> Plan:
        return super()._plan().model_copy(update=self.more)

    def filled(self) -> Path:
        """Two teachers and their baselines, three seeds each."""
        for i, teacher in enumerate(("deit", "clip")):
            base = {0: 300, 1: 305, 2: 310}
            self.add(teacher, "standard", "none", base)
            self.add(teacher, "standard", "kd", {seed: n + 12 - 4 * i for seed, n in base.items()})
        return self.save()


@pytest.fixture
def made(tmp_path: Path) -> Shifted:
    """A folder in the making."""
    return Shifted(tmp_path / "out")


def board_of(made: Shifted) -> Board:
    """The report's content on a filled folder."""
    return build_board([made.filled()], made.store.folder / "report")


def row(board: Board, method: str = "kd", teacher: str = "micro/deit") -> Row:
    """One row of a report."""
    (found,) = [r for r in board.rows if (r.key.method, r.key.teacher) == (method, teacher)]
    return found


def tables(board: Board, what: str) -> list[Table]:
    """The tables of one part of the report."""
    return [table for table in beside_tables(board) if table.what == what]


def lines(board: Board) -> list[dict[str, str]]:
    """The CSV."""
    return list(csv.DictReader(io.StringIO(render(board)["leaderboard.csv"].decode())))


def test_a_shift_set_stands_beside_its_own_classes(made: Shifted) -> None:
    """Accuracy by the rule in the title, clean accuracy on the same classes, and the drop by seed."""
    board = board_of(made)
    score = row(board).shifted["digits/a"]
    mean = (312 + 317 + 322) / 1080
    assert score.top1.mean == pytest.approx(mean / 2)
    assert score.clean is not None
    assert score.clean.mean == pytest.approx(mean)
    assert score.drop is not None
    assert score.drop.mean == pytest.approx(100 * mean / 2)
    ours, plain = tables(board, "Shifted images")[1], tables(board, "Shifted images")[0]
    assert ours.title == (
        "Shifted images: digits, recipe micro_short, "
        "scored within 4 of 10 classes (class map cccccccccccccccc)"
    )
    assert ours.header[3:] == (
        "Clean, 144 images (%)",
        "digits/a (%)",
        "digits/r (%)",
        "digits/a, over all (%)",
        "digits/r, over all (%)",
    )
    (cells,) = [cells for cells in ours.rows if cells[:3] == ("micro/deit", "standard", "kd")]
    assert cells[3:] == (
        "88.1 ± 3.5",
        "44.0 ± 1.7 (-44.0 ± 1.7)",
        "66.0 ± 2.6 (-22.0 ± 0.9)",
        "22.0 ± 0.9 (44.0)",
        "33.0 ± 1.3 (44.0)",
    )
    assert plain.title.endswith("scored all classes")
    assert plain.header[3:] == ("Clean, 360 images (%)", "digits/rotate (%)")


def test_the_csv_names_the_rule(made: Shifted) -> None:
    """Every shift split has its clean accuracy, drop, other rule and meaning in columns of its own."""
    (found,) = [
        line for line in lines(board_of(made)) if (line["teacher"], line["method"]) == ("micro/deit", "kd")
    ]
    mean = (312 + 317 + 322) / 1080
    assert float(found["top1 digits/r"]) == pytest.approx(0.75 * mean)
    assert float(found["clean_top1 digits/r"]) == pytest.approx(mean)
    assert float(found["drop_pp digits/r"]) == pytest.approx(25 * mean)
    assert float(found["top1_over_all digits/r"]) == pytest.approx(0.375 * mean)
    assert found["scored digits/r"] == f"within 4 of 10 classes (class map {'c' * 16})"
    assert found["scored digits/rotate"] == "all classes"
    assert float(found["agreement"]) == 0.75


def test_other_rules_stand_in_other_tables(made: Shifted) -> None:
    """Two sets of different classes never share a table, so no column holds both."""
    made.scoring = {"digits/a": WITHIN, "digits/r": OTHER}
    titles = [table.title.rpartition("scored ")[2] for table in tables(board_of(made), "Shifted images")]
    assert titles == [
        "all classes",
        f"within 4 of 10 classes (class map {'c' * 16})",
        f"within 5 of 10 classes (class map {'d' * 16})",
    ]


@pytest.mark.parametrize(
    ("scoring", "said"),
    [
        ({"digits/a": OTHER}, r"within 5 of 10 classes \(class map d{16}\)"),
        ({"digits/a": {**WITHIN, "classes": "e" * 16}}, r"within 4 of 10 classes \(class map e{16}\)"),
        ({"digits/a": {**WITHIN, "clean_split": "val"}}, "clean val"),
        ({"digits/a": {**WITHIN, "images": "f" * 16}}, "images f{16}"),
    ],
)
def test_one_split_scored_in_two_ways_is_refused(
    tmp_path: Path, scoring: dict[str, dict[str, Any]], said: str
) -> None:
    """Another rule, list of classes, clean split or images of a shift set: an error that names both runs."""
    folders: list[Path] = []
    for name, rule in (("a", {"digits/a": WITHIN}), ("b", scoring)):
        made = Shifted(tmp_path / name)
        made.scoring = rule
        made.add("deit", "standard", "none", {len(folders): 300})
        folders.append(made.save())
    with pytest.raises(
        MixedError, match=rf"split digits/a: run \w+ is scored within 4.* and run \w+ .*{said}"
    ):
        build_board(folders, tmp_path / "report")


def test_other_thresholds_are_refused(tmp_path: Path) -> None:
    """Heads of other sizes do not share a column."""
    folders: list[Path] = []
    for name, above in (("a", 100.0), ("b", 50.0)):
        made = Shifted(tmp_path / name)
        made.groups = {"head_above": above, "tail_below": 20.0, "head_top1": 1.0, "head_classes": 10.0}
        made.add("deit", "standard", "none", {len(folders): 300})
        folders.append(made.save())
    with pytest.raises(MixedError, match=r"head above 100 and a tail below 20 .* head above 50"):
        build_board(folders, tmp_path / "report")


def test_a_long_tail_has_its_table(made: Shifted) -> None:
    """Head, medium and tail beside both means, with the thresholds said; an empty group has no column."""
    made.groups = {
        "head_above": 100.0,
        "tail_below": 20.0,
        "head_top1": 1.0,
        "head_classes": 3.0,
        "tail_top1": 0.5,
        "tail_classes": 7.0,
    }
    board = board_of(made)
    (table,) = tables(board, "Long tail")
    assert table.header[3:] == (
        "Top-1 (%)",
        "Per class (%)",
        "Delta per class (pp)",
        "Head, 3 classes (%)",
        "Tail, 7 classes (%)",
    )
    assert "head: classes with more than 100 training images; tail: with fewer than 20" in table.explanation
    (cells,) = [cells for cells in table.rows if cells[:3] == ("micro/deit", "standard", "kd")]
    assert (cells[3], cells[4], cells[6], cells[7]) == (
        "88.1 ± 3.5",
        "88.1 ± 3.5",
        "88.1 ± 3.5",
        "44.0 ± 1.7",
    )
    assert cells[5].startswith("+3.3")
    (found,) = [line for line in lines(board) if (line["teacher"], line["method"]) == ("micro/deit", "kd")]
    assert float(found["tail_top1"]) == pytest.approx(0.5 * float(found["top1"]))
    assert (found["head_above"], found["tail_classes"]) == ("100", "7")


def test_older_records_stand_beside_newer_ones(made: Shifted) -> None:
    """A record without the new measures counts for what it has, and takes nothing from the others."""
    made.older = frozenset({0})
    board = board_of(made)
    found = row(board)
    assert found.done == (0, 1, 2)
    assert found.top1 is not None
    assert found.top1.n == 3
    assert found.shifted["digits/a"].top1.n == 2
    assert board.notes == ()


def test_one_run_with_more_measures_is_the_same_result(tmp_path: Path) -> None:
    """Two records of a run that agree in all that both have are one result; another number is told."""
    folders = []
    for name, older, right in (("old", {0}, 300), ("new", set(), 300), ("off", set(), 301)):
        made = Shifted(tmp_path / name)
        made.older = frozenset(older)
        made.add("deit", "standard", "none", {0: right})
        folders.append(made.save())
    assert build_board(folders[:2], tmp_path / "report").notes == ()
    (note,) = build_board([folders[0], folders[2]], tmp_path / "report").notes
    assert "has two results" in note


def contaminated(made: Shifted, *, pictures: tuple[str, ...] = ("digits",)) -> Board:
    """A board whose teacher has seen the data set's own pictures, and those of the shift set `r`."""
    made.group, made.seen = "published", ("digits", "r")
    made.dataset = made.dataset.model_copy(update={"pictures": pictures})
    made.groups = {"head_above": 100.0, "tail_below": 20.0, "head_top1": 1.0, "head_classes": 10.0}
    return board_of(made)


def test_every_table_marks_what_the_teacher_has_seen(made: Shifted) -> None:
    """Leaderboard, families, long tail, shift sets, summary, heatmap, page, LaTeX and CSV: with a legend."""
    board = contaminated(made)
    pages = {name: content.decode() for name, content in render(board).items() if "figures" not in name}
    markdown = pages["leaderboard.md"]
    for section in markdown.split("\n## ")[1:]:
        table = [line for line in section.splitlines() if line.startswith("| micro/") or "| deit" in line]
        assert all("†" in line for line in table), section
    assert markdown.count("† The teacher was trained on this collection") == 1
    assert "†" in summary(board)[1]
    assert [heatmap.seen for heatmap in heatmaps(board)] == [("micro/clip", "micro/deit")]
    assert "have seen these pictures: micro/clip, micro/deit." in heatmaps(board)[0].alt
    assert pages["index.html"].count("† The teacher was trained on this collection") == 5
    assert r"micro/deit\dag{}" in pages["leaderboard.tex"]
    assert "†" not in pages["leaderboard.tex"]
    seen = {
        (line["method"], line["teacher_has_seen"], line["teacher_has_seen digits/r"]) for line in lines(board)
    }
    assert seen == {("kd", "digits", "r"), ("none", "", "")}
    assert "teacher_has_seen digits/a" not in lines(board)[0]


def test_a_shift_set_is_marked_for_itself(made: Shifted) -> None:
    """A teacher that knows the pictures of one set alone is marked there, and not on what it has not seen."""
    board = contaminated(made, pictures=("web",))
    assert row(board).seen == ()
    assert not any(
        "†" in cell for table in tables(board, "Long tail") for line in table.rows for cell in line
    )
    (_, table) = tables(board, "Shifted images")
    (cells,) = [cells for cells in table.rows if cells[0] == "micro/deit"]
    assert [("†" in cell) for cell in cells] == [False, False, False, False, False, True, False, True]


def test_pictures_of_a_shift_set_can_be_named(made: Shifted) -> None:
    """A set of pictures from elsewhere is marked by the collection that its record names."""
    made.scoring = {"digits/a": {**WITHIN, "pictures": ["r"]}}
    assert contaminated(made, pictures=("web",)).rows[0].shifted["digits/a"].seen == ("r",)


def test_what_a_record_says_was_seen_counts(made: Shifted) -> None:
    """A contract that said so when the run was made is believed, whatever the plan says."""
    made.group = "published"
    made.dataset = made.dataset.model_copy(update={"pictures": ("digits",)})
    made.facts = {"teacher": {"family": "deit", "group": "published", "seen": ["digits"]}, "method": {}}
    assert row(board_of(made)).seen == ("digits",)
    assert row(board_of(made), "none").seen == ()


def test_nothing_seen_is_nothing_marked(made: Shifted) -> None:
    """Without a teacher that has seen the pictures there is neither mark nor legend."""
    for name, content in render(board_of(made)).items():
        assert name.endswith(".png") or "†" not in content.decode()
